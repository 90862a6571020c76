"""Rows of CSV, TSV, JSONL and parquet files, each with the place it stands at.

Every fault of a file is a `ValueError` of one line that names the file and, where there is one, the line.
"""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sharcs_pl.data.delimited import cells_hint, plain_records, quoted_records
from sharcs_pl.data.lines import Fault, TextLines, shown

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[str, tuple[Any, ...]]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
QUOTINGS = ("standard", "none")
_BATCH = 4096  # parquet rows in memory at once
_UNDECODED = object()  # a parquet text that is not UTF-8
_QUOTE_ADVICE = "double a quote inside a quoted cell, or set {}=none where quotes are plain characters"


@dataclass(frozen=True)
class Request:
    """What to read of a file: `columns` in this order, then `optional` where the file has it.

    `quoting`: of CSV and TSV files, `standard` or `none`; `quoting_key`: the key that says so.
    """

    columns: tuple[str, ...]
    optional: str | None = None
    quoting: str = "standard"
    quoting_key: str = "task.quoting"

    def present(self, names: Container[str]) -> tuple[str, ...]:
        """The columns to read of a file with these names."""
        if self.optional is None or self.optional not in names:
            return self.columns
        return (*self.columns, self.optional)


def check_file(key: str, value: str, suffixes: Iterable[str] | None = None) -> Path:
    """The path that a key names; `ValueError` with the key when no file of a known format (one of the `suffixes`, else
    of the formats with columns) is there."""
    known = tuple(suffixes or READERS)
    path = Path(value).expanduser()
    given = f"{key}={value if len(value) <= 120 else '…' + value[-119:]}"
    if path.suffix.lower() not in known:
        raise ValueError(f"{given}: the suffix {path.suffix!r} is not supported; choose among {', '.join(known)}")
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
    for found in read_found(path, request):
        if isinstance(found, Fault):
            raise ValueError(str(found))
        yield found


def read_found(path: Path, request: Request) -> Iterator[Row | Fault]:
    """The same, with a `Fault` in the place of every row that cannot be read. Raises `ValueError` for a file without
    rows or without the columns."""
    empty = True
    with path.open("rb") as file:
        for found in READERS[path.suffix.lower()](file, path.name, request):
            empty = False
            yield found
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
    missing = columns_fault(names, wanted)
    if missing:
        raise ValueError(f"{where}: {missing}")


def columns_fault(names: Sequence[str], wanted: Iterable[str]) -> str | None:
    """The first name that is not there, the closest one and those that are; None where all are there."""
    for column in wanted:
        if column not in names:
            return f"no column {shown(column)}{_closest(column, names)} among {listed(names)}"
    return None


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


def text_fault(texts: Sequence[Any], columns: Sequence[str], allow_empty: bool = False) -> str | None:
    """Why the values of some text columns are no texts for a model; None where they are."""
    for column, text in zip(columns, texts, strict=True):
        if not isinstance(text, str):
            return f"{shown(column)} is {'null' if text is None else f'{shown(text)}, not a text'}"
        if not allow_empty and not text.strip():
            return f"{shown(column)} is empty"
    return None


def _read_delimited(file: BinaryIO, name: str, delimiter: str, request: Request) -> Iterator[Row | Fault]:
    if request.quoting == "none":
        lines = TextLines(file, name, returns=False)
        records = plain_records(lines, delimiter)
    else:
        lines = TextLines(file, name, returns=True)
        records = quoted_records(lines, delimiter, _QUOTE_ADVICE.format(request.quoting_key))
    first = next(records, None)
    if first is None:
        return
    if isinstance(first, Fault):
        raise ValueError(str(first))
    line, header = first
    columns = request.present(header)
    check_columns(lines.place(line), header, columns)
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


def _read_jsonl(file: BinaryIO, name: str, request: Request) -> Iterator[Row | Fault]:
    columns: tuple[str, ...] = ()
    lines = TextLines(file, name, returns=False)
    for line in lines:
        fault, place = lines.fault, lines.place(lines.number)
        lines.begin()
        if fault or not line.strip():
            if fault:
                yield fault
            continue
        record = _json_object(place, line)
        if isinstance(record, dict):
            columns = columns or request.present(record)
            yield _json_row(place, record, columns, request.optional)
        else:
            yield record


def _json_object(place: str, line: str) -> dict[str, Any] | Fault:
    try:
        record = json.loads(line.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        return Fault(place, f"invalid JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # a number of too many digits, lists within lists within lists
        return Fault(place, f"invalid JSON: {shown(str(error))}")
    if not isinstance(record, dict):
        return Fault(place, f"{shown(record)} is not an object with the columns as keys")
    return record


def _json_row(place: str, record: dict[str, Any], columns: Sequence[str], optional: str | None) -> Row | Fault:
    if optional in record and optional not in columns:
        return Fault(place, f"has {shown(optional)}, which the rows before it lack")
    missing = columns_fault(list(record), columns)
    if missing:
        return Fault(place, missing)
    values = tuple([record[column] for column in columns])
    for column, value in zip(columns, values, strict=True):
        half = _half_pair(value)
        if half:
            return Fault(place, f"{shown(column)} holds {half}, half of a surrogate pair: no UTF-8")
    return place, values


def _half_pair(value: Any) -> str | None:
    """JSON can spell half of a surrogate pair, which no UTF-8 file and no tokenizer takes."""
    if not isinstance(value, str | list | dict):
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return shown(text[error.start])
    return None


def _read_parquet(file: BinaryIO, name: str, request: Request) -> Iterator[Row | Fault]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            columns = request.present(table.schema_arrow.names)
            check_columns(name, table.schema_arrow.names, columns)
            start = 1
            for batch in table.iter_batches(_BATCH, columns=list(columns)):
                values = [_values(batch.column(column)) for column in columns]
                for row, cells in enumerate(zip(*values, strict=True), start):
                    place = f"{name}, row {row}"
                    yield Fault(place, "not UTF-8") if _UNDECODED in cells else (place, cells)
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        yield Fault(name, f"not a whole parquet file: {shown(str(error), 160)}", ends=True)


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _UNDECODED


READERS: dict[str, Callable[[BinaryIO, str, Request], Iterator[Row | Fault]]] = {
    ".csv": lambda file, name, request: _read_delimited(file, name, ",", request),
    ".tsv": lambda file, name, request: _read_delimited(file, name, "\t", request),
    **dict.fromkeys((".jsonl", ".ndjson"), _read_jsonl),
    ".parquet": _read_parquet,
}
"""By suffix: the rows of a binary file of that name, and the faults among them. Faults of a header are raised."""
