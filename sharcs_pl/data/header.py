"""The delimiter of a CSV or TSV file, from a key, Excel's first line, or the header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sharcs_pl.core.text_files import DELIMITER_NAMES, delimiter_name
from sharcs_pl.data.columns import Request
from sharcs_pl.data.lines import TextLines
from sharcs_pl.data.shown import listed

_EXCELS_LINE = re.compile(r'"?sep=([^\r\n])"?[\r\n]*', re.IGNORECASE)
_LARGEST_CELL = 2**31 - 1  # the largest C long on every platform


@dataclass(frozen=True)
class Separated:
    """The delimiter of a file, and a hint about it for a message about a missing column."""

    delimiter: str
    hint: str


def find_delimiter(lines: TextLines, usual: str, request: Request) -> Separated:
    """Find the delimiter of a file, by default the `usual` one of its suffix. Skip Excel's line `sep=;`.

    Another delimiter is chosen if only this one splits the header into all requested columns.
    """
    told = _told(lines)
    head = lines.head(quotes=request.quoting == "standard")
    candidates = dict.fromkeys((usual, *DELIMITER_NAMES.values(), *filter(None, [request.usual_delimiter, told])))
    cells = {each: _split(head, each, request.quoting) for each in candidates}
    serving = [each for each in candidates if all(name in cells[each] for name in request.columns)]
    chosen = request.delimiter or told or (serving[0] if len(serving) == 1 else usual)
    if chosen not in cells:
        cells[chosen] = _split(head, chosen, request.quoting)
    single = len(cells[chosen]) == 1
    others = serving or [each for each in candidates if single and len(cells[each]) > 1]
    return Separated(chosen, _hint([each for each in others if each != chosen], cells, request))


@contextmanager
def cells_of_any_size() -> Iterator[None]:
    """Raise csv's limit on the size of a cell, which is global to the process, within a block."""
    limit = csv.field_size_limit(_LARGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _told(lines: TextLines) -> str | None:
    """Return the delimiter of Excel's first line and skip the line, or return None without one."""
    head = lines.head(quotes=False)
    found = _EXCELS_LINE.fullmatch(head[0]) if len(head) == 1 else None
    if found is None:
        return None
    next(lines)
    lines.begin()
    return found.group(1)


def _split(head: Sequence[str], delimiter: str, quoting: str) -> list[str]:
    """Return the cells of the header, an empty list if it cannot be read."""
    if quoting == "none":
        return head[-1].strip("\r\n").split(delimiter) if head else []
    with cells_of_any_size():
        try:
            return next(filter(None, csv.reader(head, delimiter=delimiter, strict=True)), [])
        except csv.Error:
            return []


def _hint(others: list[str], cells: dict[str, list[str]], request: Request) -> str:
    key = request.key("delimiter")
    ways = [f"{key}={delimiter_name(each)} makes them {listed(cells[each], 60)}" for each in others[:2]]
    return f"; {', '.join(ways)}" if ways else ""
