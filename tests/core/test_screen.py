from __future__ import annotations

import io

from rich.table import Table

from sharcs_pl.core.screen import Screen

STRANGE = "[bold]a[/] [link=http://x]b[/link] :smile: \x1b[31mred 1.5"


def test_names_are_shown_as_they_are() -> None:
    """Printed, and in a table's title, head and cells."""
    out = io.StringIO()
    table = Table(title=STRANGE)
    table.add_column(STRANGE)
    table.add_row(STRANGE)
    screen = Screen(file=out, force_terminal=True, width=200, color_system=None)
    screen.print(STRANGE)
    screen.print(table)
    assert out.getvalue().count("[bold]a[/] [link=http://x]b[/link] :smile: \\x1b[31mred 1.5") == 4
    assert "\x1b[31m" not in out.getvalue()
