"""Rows of the first sheet of an Excel file, in the form in which Excel writes them to a CSV file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import date, datetime, time
from importlib.util import find_spec
from itertools import islice
from typing import Any

from sharcs_pl.data.columns import Request, Row, check_columns
from sharcs_pl.data.containers import Opened
from sharcs_pl.data.lines import Fault
from sharcs_pl.data.shown import listed, shown

_BATCH = 256  # rows
_OLD_OR_LOCKED = b"\xd0\xcf\x11\xe0"  # first bytes of .xls files and of files with a password


def check_excel(given: str) -> None:
    """Raise `ValueError` unless the package that reads Excel files is installed."""
    if find_spec("openpyxl") is None:
        raise ValueError(
            f"{given}: reading .xlsx takes a package that is not installed: pip install 'sharcs-pl[excel]'; or save "
            "the sheet as CSV"
        )


def read_excel(source: Opened, request: Request) -> Iterator[Row | Fault]:
    """Yield the rows with all cells as text. Whole numbers have no decimals, empty cells are "", dates are ISO."""
    header: list[str] = []
    columns: tuple[str, ...] = ()
    for row, found in enumerate(_cells(source), 1):
        if isinstance(found, Fault):
            yield found
            return
        place = f"{source.name}, row {row}"
        cells = [_text(cell) for cell in found]
        while cells and not cells[-1].strip():
            del cells[-1]
        if not cells:
            continue
        if not header:
            header, columns = cells, request.present(cells)
            check_columns(place, [name for name in header if name], columns)
        elif len(cells) > len(header):
            yield Fault(place, f"{len(cells)} cells, expected {len(header)}: {listed(header)}")
        else:
            padded = dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=True))
            yield place, tuple([padded[column] for column in columns])


def _cells(source: Opened) -> Iterator[tuple[Any, ...] | Fault]:
    """Yield the rows of the first sheet, with empty ones."""
    if source.file.peek(4)[:4] == _OLD_OR_LOCKED:
        what = "has a password, or is an old .xls file"
        yield Fault(source.name, f"{what}; save it as .xlsx without a password, or as CSV", ends=True)
        return
    rows: Iterator[tuple[Any, ...]] | None = None
    while True:
        # A damaged file may raise any kind of error in the parser. Its warnings concern only styles and formulas.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows = _opened(source) if rows is None else rows
                batch = list(islice(rows, _BATCH))
        except Exception as error:  # noqa: BLE001
            why = shown(" ".join(str(error).split()) or type(error).__name__, 160)
            yield Fault(source.name, f"not a whole Excel file: {why}", ends=True)
            return
        if not batch:
            return
        yield from batch


def _opened(source: Opened) -> Iterator[tuple[Any, ...]]:
    from openpyxl import load_workbook

    sheet: Any = load_workbook(source.file, read_only=True, data_only=True).worksheets[0]
    sheet.reset_dimensions()  # the size that a file declares is often wrong
    return sheet.iter_rows(values_only=True)


def _text(value: Any) -> str:
    """Return a cell as text in Excel's general format."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return value.isoformat(" ") if isinstance(value, datetime) else _plain(value)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | time) else str(value)
