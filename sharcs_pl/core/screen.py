"""A console for texts that contain untrusted names."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from sharcs_pl.core.text import printable


class Screen(Console):
    """A rich console that prints every text literally, also in cells and titles of tables. It interprets no markup and
    no ``:emoji:``, highlights nothing, and prints control characters escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)
