"""Rows of CSV and TSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from sharcs_pl.data.columns import Request, Row, check_columns
from sharcs_pl.data.containers import Opened, reading
from sharcs_pl.data.header import cells_of_any_size, find_delimiter
from sharcs_pl.data.lines import Fault, TextLines
from sharcs_pl.data.shown import listed, shown

Record = tuple[int, list[str]]
"""The number of the first line of a row, and its cells."""

_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
_QUOTE_ADVICE = "double a quote inside a quoted cell, or set {}=none where quotes are plain characters"


def read_delimited(source: Opened, request: Request, usual: str) -> Iterator[Row | Fault]:
    """Yield the rows of a file. The key or the header tells the delimiter, which is mostly the `usual` character."""
    quoted = request.quoting == "standard"
    lines = TextLines(source, request.key("encoding"), returns=quoted)
    found = find_delimiter(lines, usual, request)
    if quoted:
        records = quoted_records(lines, found.delimiter, _QUOTE_ADVICE.format(request.key("quoting")))
    else:
        records = plain_records(lines, found.delimiter)
    first = next(records, None)
    if first is None:
        return
    if isinstance(first, Fault):
        raise ValueError(str(first))
    line, header = first
    columns = request.present(header)
    zeros = next((cell for cell in header if "\0" in cell), None)
    hint = reading(zeros, 0, 0, request.key("encoding")) if zeros else found.hint
    check_columns(lines.place(line), header, columns, hint)
    indices = [header.index(column) for column in columns]
    for record in records:
        if isinstance(record, Fault):
            yield record
            continue
        line, cells = record
        if len(cells) == len(header):
            yield lines.place(line), tuple([cells[index] for index in indices])
        elif len(cells) > 1 or cells[0].strip():
            expected = f"{len(header)}: {listed(header)}"
            yield Fault(lines.place(line), f"{len(cells)} cells, expected {expected}{cells_hint(cells)}")


def quoted_records(lines: TextLines, delimiter: str, advice: str) -> Iterator[Record | Fault]:
    """Yield records with CSV quotes. A stray quote is a fault of its row. A stray quote over several lines ends the
    file, because the start of the next row is unknown. `advice` ends both messages."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        lines.begin()
        try:
            cells = _next_record(reader)
        except csv.Error:
            fault = _quote_fault(lines, start, delimiter, advice)
            yield fault
            if fault.ends:
                return
            continue
        if cells is None:
            return
        if lines.fault:
            yield lines.fault
        elif cells:
            yield start, cells


def plain_records(lines: TextLines, delimiter: str) -> Iterator[Record | Fault]:
    """Yield records without quoting, where each line is a row and a quote is a plain character."""
    for line in lines:
        fault, cells = lines.fault, line.removesuffix("\n").removesuffix("\r")
        if fault or cells:
            yield fault or (lines.number, cells.split(delimiter))
        lines.begin()


def cells_hint(cells: list[str]) -> str:
    """Return a possible reason for a row with another number of cells than the header."""
    if any("\n" in cell for cell in cells):
        return "; a quoted cell spans several lines here"
    return "; quotes count only around a whole cell" if any('"' in cell for cell in cells) else ""


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    with cells_of_any_size():  # for this row only, not while the caller holds the iterator
        return next(reader, None)


def _quote_fault(lines: TextLines, start: int, delimiter: str, advice: str) -> Fault:
    """Return the fault of the quote that breaks the row starting in a line, which csv itself does not locate."""
    text = "".join(lines.taken)
    at = 0  # start of a cell
    while True:
        cell = _QUOTED.match(text, at)
        if text[at] == '"' and (cell is None or text[cell.end()] != delimiter):
            break
        at = text.index(delimiter, at if cell is None else cell.end()) + 1
    opened = start + _line_ends(text[:at])
    place = lines.place(opened)
    if cell is None:
        return Fault(place, f"a quote opens here and is never closed; {advice}", ends=True)
    closed = start + _line_ends(text[: cell.end()])
    if closed == opened:
        stray = shown(text[cell.end() :][:20])
        return Fault(place, f"a stray quote before {stray} in a quoted cell; {advice}", ends=len(lines.taken) > 1)
    return Fault(place, f"the quote that opens here meets a stray quote in line {closed}; {advice}", ends=True)


def _line_ends(text: str) -> int:
    return len(re.findall(r"\r\n?|\n", text))
