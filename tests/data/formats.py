"""The same rows as CSV, TSV, JSONL and parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

NASTY = {
    "tab": "a\tb",
    "newline": "a\n\nb\n",
    "crlf": "a\r\nb",
    "carriage return": "a\rb",
    "quotes": '"a" said "',
    "comma": ",a,,b",
    "emoji": "👩‍👩‍👧 e\u0301",
    "right to left": "שלום עולם \u202eabc",
    "nul": "a\x00b",
    "separators": "a\u2028b\u2029c\x85d\x0be\x1cf",
    "byte-order mark": "\ufeffa",
    "spaces around": "  a  ",
    "backslashes": "\\n \\u0041 \\",
    "long": "word " * 2_000,
    "very long": "x" * 200_000,
}


def write_rows(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """Write columns in the format of the suffix."""
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([list(columns), *rows])
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(dict(columns)), path)
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=path.suffix == ".jsonl") for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), newline="", encoding="utf-8")
    return path
