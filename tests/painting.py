"""Figures are built by every run and evaluation, but painted for some tests alone: painting five takes longer than a
tiny run. Painted are those of ``tests/analysis``, those of tests marked ``painted`` and, with ``--paint``, all."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63f80f0001010100b138f6140000000049454e44ae426082"
)
"""A whole PNG of one white pixel, which stands for a figure that is not painted."""


class Brush:
    """Whether figures are painted, in this process."""

    painting = True

    def __init__(self) -> None:
        if find_spec("matplotlib") is None:
            return
        from matplotlib.figure import Figure

        paint = Figure.savefig

        def savefig(figure: Figure, path: Any, **options: Any) -> None:
            if self.painting:
                paint(figure, path, **options)
            else:
                Path(path).write_bytes(PIXEL)

        Figure.savefig = savefig  # pyright: ignore[reportAttributeAccessIssue]


brush = Brush()
