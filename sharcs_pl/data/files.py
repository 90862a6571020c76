"""Rows of CSV, TSV, JSONL and parquet files, each with the place it stands at.

Every fault of a file is a `ValueError` of one line that names the file and, where there is one, the line.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[str, tuple[Any, ...]]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
QUOTINGS = ("standard", "none")
_LARGEST_CELL = 2**31 - 1  # what a C long holds everywhere
_BATCH = 4096  # parquet rows in memory at once
_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
_QUOTE_ADVICE = "double a quote inside a quoted cell, or set task.quoting=none where quotes are plain characters"


@dataclass(frozen=True)
class Request:
    """What to read of a file: `columns` in this order, then `optional` where the file has it."""

    columns: tuple[str, ...]
    optional: str | None = None
    quoting: str = "standard"

    def present(self, names: Container[str]) -> tuple[str, ...]:
        """The columns to read of a file with these names."""
        if self.optional is None or self.optional not in names:
            return self.columns
        return (*self.columns, self.optional)


def check_file(key: str, value: str) -> Path:
    """The path that a key names; `ValueError` with the key when no file of a known format is there."""
    path = Path(value).expanduser()
    given = f"{key}={value if len(value) <= 120 else '…' + value[-119:]}"
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{given}: the suffix {path.suffix!r} is not supported; choose among {', '.join(READERS)}")
    if not os.path.isfile(path):  # unlike Path's, false for a path that no file can have
        raise ValueError(
            f"{given} is a folder, not a file" if os.path.isdir(path) else f"{given}: there is no such file"
        )
    return path


def read_rows(path: Path, request: Request) -> Iterator[Row]:
    """The place ('tickets.csv, line 12') and the values of each row, texts unchanged.

    A row has one value less where the file lacks the optional column. Values of CSV and TSV are text; those of JSONL
    and parquet are what was stored, and may be None.
    """
    empty = True
    try:
        for row in READERS[path.suffix.lower()](path, request):
            empty = False
            yield row
    except UnicodeDecodeError:
        line, byte = utf8_fault(path)
        raise ValueError(f"{path.name}, line {line}: not UTF-8 at byte {byte} of the file") from None
    if empty:
        raise ValueError(f"{path.name}: no rows")


def utf8_fault(path: Path) -> tuple[int, int]:
    """Line (from 1) and byte (from 0) where a file stops being UTF-8."""
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return number, start + error.start
            start += len(line)
    raise AssertionError(f"{path} is UTF-8")


def check_columns(where: str, names: Sequence[str], wanted: Iterable[str]) -> None:
    """`ValueError` unless every name is there once, with the names that are there and the closest one."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one column is called {shown(twice[0])}")
    for column in wanted:
        if column not in names:
            raise ValueError(f"{where}: no column {shown(column)}{_closest(column, names)} among {listed(names)}")


def shown(value: object, limit: int = 60) -> str:
    """A value as one short line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 2]}…{text[-1]}"


def listed(names: Iterable[str], limit: int = 120) -> str:
    """As many names as fit, and how many more there are."""
    parts = [one_line(name) for name in names]
    if not parts:
        return "none"
    count, length = 1, len(parts[0])
    while count < len(parts) and length + 2 + len(parts[count]) <= limit:
        length += 2 + len(parts[count])
        count += 1
    rest = len(parts) - count
    return ", ".join(parts[:count]) + (f", … and {rest:,} more" if rest else "")


def one_line(name: str, limit: int = 40) -> str:
    """A name without line breaks, shortened."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _closest(column: str, names: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(column.casefold(), folded, n=1)
    return f" (did you mean {shown(folded[found[0]])}?)" if found else ""


def _read_delimited(path: Path, request: Request) -> Iterator[Row]:
    read = _plain_records if request.quoting == "none" else _quoted_records
    records = read(path, DELIMITERS[path.suffix.lower()])
    line, header = next(records, (0, []))
    if not header:
        return
    columns = request.present(header)
    check_columns(f"{path.name}, line {line}", header, columns)
    indices = [header.index(column) for column in columns]
    for line, cells in records:
        if len(cells) == len(header):
            yield f"{path.name}, line {line}", tuple([cells[index] for index in indices])
        elif len(cells) > 1 or cells[0].strip():
            expected = f"{len(header)}: {listed(header)}"
            raise ValueError(f"{path.name}, line {line}: {len(cells)} cells, expected {expected}{_cells_hint(cells)}")


def _cells_hint(cells: list[str]) -> str:
    if any("\n" in cell for cell in cells):
        return "; a quoted cell spans several lines here"
    return "; quotes count only around a whole cell" if any('"' in cell for cell in cells) else ""


def _quoted_records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        start = 1
        while True:
            try:
                cells = _next_record(reader)
            except csv.Error:
                raise ValueError(f"{path.name}, {_quote_fault(path, start, delimiter)}; {_QUOTE_ADVICE}") from None
            if cells is None:
                return
            if cells:
                yield start, cells
            start = reader.line_num + 1


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    # The limit belongs to the whole process: it is raised for this row only, not while the caller holds the iterator.
    limit = csv.field_size_limit(_LARGEST_CELL)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _quote_fault(path: Path, start: int, delimiter: str) -> str:
    """Which quote of the row that starts in a line breaks it: csv itself names the end of the file, or nothing."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = "".join(islice(file, start - 1, None))
    at = 0  # where a cell starts
    while True:
        cell = _QUOTED.match(text, at)
        if text[at] == '"' and (cell is None or text[cell.end()] != delimiter):
            break
        at = text.index(delimiter, at if cell is None else cell.end()) + 1
    opened = start + _line_ends(text[:at])
    if cell is None:
        return f"line {opened}: a quote opens here and is never closed"
    closed = start + _line_ends(text[: cell.end()])
    if closed == opened:
        return f"line {opened}: a stray quote before {shown(text[cell.end() :][:20])} in a quoted cell"
    return f"line {opened}: the quote that opens here meets a stray quote in line {closed}"


def _line_ends(text: str) -> int:
    return len(re.findall(r"\r\n?|\n", text))


def _plain_records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            cells = line.removesuffix("\n").removesuffix("\r")
            if cells:
                yield number, cells.split(delimiter)


def _read_jsonl(path: Path, request: Request) -> Iterator[Row]:
    columns: tuple[str, ...] = ()
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path.name}, line {number}"
            record = _json_object(place, line)
            columns = columns or request.present(record)
            if request.optional in record and request.optional not in columns:
                raise ValueError(f"{place}: has {shown(request.optional)}, which the rows before it lack")
            if not all(column in record for column in columns):
                check_columns(place, list(record), columns)
            yield place, tuple([_storable(place, column, record[column]) for column in columns])


def _json_object(place: str, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: invalid JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, lists within lists within lists
        raise ValueError(f"{place}: invalid JSON: {shown(str(error))}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{place}: {shown(record)} is not an object with the columns as keys")
    return record


def _storable(place: str, column: str, value: Any) -> Any:
    """JSON can spell half of a surrogate pair, which no UTF-8 file and no tokenizer takes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = shown(value[error.start])
            raise ValueError(f"{place}: {shown(column)} holds {half}, half of a surrogate pair: no UTF-8") from None
    return value


def _read_parquet(path: Path, request: Request) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = request.present(file.schema_arrow.names)
            check_columns(path.name, file.schema_arrow.names, columns)
            start = 1
            for batch in file.iter_batches(_BATCH, columns=list(columns)):
                values = [_values(path, start, batch.column(column)) for column in columns]
                yield from (
                    (f"{path.name}, row {row}", cells) for row, cells in enumerate(zip(*values, strict=True), start)
                )
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name}: not a whole parquet file: {shown(str(error), 160)}") from None


def _values(path: Path, start: int, column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        row = next(row for row, value in enumerate(column, start) if not _decodes(value))
        raise ValueError(f"{path.name}, row {row}: not UTF-8") from None


def _decodes(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


READERS: dict[str, Callable[[Path, Request], Iterator[Row]]] = {
    **dict.fromkeys(DELIMITERS, _read_delimited),
    **dict.fromkeys((".jsonl", ".ndjson"), _read_jsonl),
    ".parquet": _read_parquet,
}
