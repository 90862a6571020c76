"""The terminal, for texts that hold names from anywhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from sharcs_pl.core.text import printable


class Screen(Console):
    """A rich console on which every text is only a text, in cells and titles of tables too: a bracket opens no markup,
    ``:name:`` draws no emoji, nothing is highlighted, and control characters are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)
