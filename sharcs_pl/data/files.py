"""Rows of CSV, TSV, JSON, parquet and Excel files, each with its place in the file.

Every fault of a file is a `ValueError` of one line that names the file and, if known, the line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sharcs_pl.data.columns import Request, Row, check_columns
from sharcs_pl.data.containers import Damaged, Opened, format_of, opened
from sharcs_pl.data.delimited import read_delimited
from sharcs_pl.data.excel import check_excel, read_excel
from sharcs_pl.data.json_rows import read_json, read_jsonl
from sharcs_pl.data.lines import Fault
from sharcs_pl.data.parquet import read_parquet
from sharcs_pl.data.shown import listed, short_name, shown

__all__ = [
    "ALL_TEXT",
    "READERS",
    "Reader",
    "Request",
    "Row",
    "check_columns",
    "check_file",
    "format_of",
    "listed",
    "read_found",
    "read_rows",
    "rows_in",
    "short_name",
    "shown",
    "source_of",
    "text_fault",
]  # fmt: skip

Reader = Callable[[Opened, Request], Iterator[Row | Fault]]

ALL_TEXT = (".csv", ".tsv", ".xlsx")  # formats whose cells are text
_BINARY = (".parquet", ".xlsx")  # compressed inside, and read with random access
_SPREADSHEETS = (".xls", ".xlsb", ".xlsm", ".ods", ".numbers")
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz")


def check_file(key: str, value: str, suffixes: Iterable[str] | None = None) -> Path:
    """Return the path that a key names. Raise `ValueError` with the key unless it is a file with one of the `suffixes`
    (None: all formats with columns)."""
    path = Path(value).expanduser()
    given = f"{key}={value if len(value) <= 120 else '…' + value[-119:]}"
    _check_suffix(given, path, tuple(suffixes or READERS))
    if not os.path.isfile(path):  # unlike Path's, false for a path that no file can have
        raise ValueError(
            f"{given} is a folder, not a file" if os.path.isdir(path) else f"{given}: there is no such file"
        )
    if format_of(path)[0] == ".xlsx":
        check_excel(given)
    return path


def _check_suffix(given: str, path: Path, known: Sequence[str]) -> None:
    suffix, packed = format_of(path)
    if packed and suffix in _BINARY:
        raise ValueError(f"{given}: a {suffix} file is compressed inside; unpack it")
    if suffix in known:
        return
    if packed and not suffix:
        raise ValueError(f"{given}: the name must tell the format before {packed}, such as data.csv{packed}")
    what = "save it as .xlsx or .csv" if suffix in _SPREADSHEETS else ""
    what = what or ("unpack it first" if suffix in _ARCHIVES else f"choose among {', '.join(known)}")
    raise ValueError(f"{given}: the suffix {suffix!r} is not supported; {what}")


def read_rows(path: Path, request: Request) -> Iterator[Row]:
    """Yield the place ('tickets.csv, line 12') and the values of each row, with texts unchanged.

    Rows lack the values of optional columns if the file lacks them. Values of CSV, TSV and Excel are text. Values of
    JSON and parquet have their stored type and may be None. Raise `ValueError` for the first fault.
    """
    for found in read_found(path, request):
        if isinstance(found, Fault):
            raise ValueError(str(found))
        yield found


def read_found(path: Path, request: Request) -> Iterator[Row | Fault]:
    """Yield the rows of a file, with a `Fault` for every row that cannot be read. Raise `ValueError` for a file without
    rows or without the columns."""
    empty = True
    for found in rows_in(source_of(path, request), path.name, READERS[format_of(path)[0]], request):
        empty = False
        yield found
    if empty:
        raise ValueError(f"{path.name}: no rows")


def rows_in(source: AbstractContextManager[Opened], name: str, read: Reader, request: Request) -> Iterator[Row | Fault]:
    """Yield the rows that a reader finds in a source. A truncated compressed source ends with a `Fault`."""
    try:
        with source as file:
            yield from read(file, request)
    except Damaged as damage:
        yield Fault(name, str(damage), ends=True)


@contextmanager
def source_of(path: Path, request: Request) -> Iterator[Opened]:
    """Open a file for its reader, binary formats without decoding."""
    if format_of(path)[0] in _BINARY:
        with path.open("rb") as file:
            yield Opened(file, path.name)
    else:
        with opened(path, request.encoding, request.key("encoding")) as source:
            yield source


def text_fault(texts: Sequence[Any], columns: Sequence[str], allow_empty: bool = False) -> str | None:
    """Return a message if a value of the text columns is null, not a text or empty, else None."""
    for column, text in zip(columns, texts, strict=True):
        if not isinstance(text, str):
            return f"{shown(column)} is {'null' if text is None else f'{shown(text)}, not a text'}"
        if not allow_empty and not text.strip():
            return f"{shown(column)} is empty"
    return None


READERS: dict[str, Reader] = {
    ".csv": partial(read_delimited, usual=","),
    ".tsv": partial(read_delimited, usual="\t"),
    **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
    ".json": read_json,
    ".parquet": read_parquet,
    ".xlsx": read_excel,
}
"""The reader for each suffix, which yields rows and faults. Faults of a header are raised."""
