"""A console for texts that contain untrusted names, and the heads of tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharcs_pl.core.text import printable


class Screen(Console):
    """A rich console that prints every text literally, also in cells and titles of tables. It interprets no markup and
    no ``:emoji:``, highlights nothing, and prints control characters escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def new_table(title: str | Text, names: Iterable[str], *, no_wrap: bool = False, **first: Any) -> Table:
    """Return a table without rows. Columns stand right, with ``no_wrap``; one without a name left, with the options
    ``first``."""
    table = Table(title=title, title_justify="left")
    for name in names:
        if name:
            table.add_column(name, justify="right", no_wrap=no_wrap)
        else:
            table.add_column(**first)
    return table
