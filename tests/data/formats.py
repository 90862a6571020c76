"""The same rows in every format that is read."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PACKED = (".csv.gz", ".tsv.bz2", ".jsonl.xz", ".ndjson.gz", ".json.zst", ".CSV.ZST")
CONTAINERS = SUFFIXES + PACKED

NASTY = {
    "tab": "a\tb",
    "newline": "a\n\nb\n",
    "crlf": "a\r\nb",
    "carriage return": "a\rb",
    "quotes": '"a" said "',
    "comma": ",a,,b",
    "semicolons and pipes": ";a;|b||",
    "emoji": "👩‍👩‍👧 e\u0301",
    "right to left": "שלום עולם \u202eabc",
    "nul": "a\x00b",
    "separators": "a\u2028b\u2029c\x85d\x0be\x1cf",
    "byte-order mark": "\ufeffa",
    "spaces around": "  a  ",
    "backslashes": "\\n \\u0041 \\",
    "brackets": ']}, {"text": [',
    "excel's first line": "sep=;",
    "long": "word " * 2_000,
    "very long": "x" * 200_000,
}


def write_rows(path: Path, columns: Mapping[str, Sequence[Any]], delimiter: str = "", encoding: str = "utf-8") -> Path:
    """Write columns in the format of the suffix, compressed where a second one says so."""
    packed = path.suffix.lower() in PACKERS
    suffix = (Path(path.stem).suffix if packed else path.suffix).lower()
    rows = list(zip(*columns.values(), strict=True))
    if suffix == ".parquet":
        pq.write_table(pa.table(dict(columns)), path)
        return path
    if suffix in (".csv", ".tsv"):
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter or ("\t" if suffix == ".tsv" else ","))
        writer.writerows([list(columns), *rows])
        content = text.getvalue()
    else:
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        if suffix == ".json":
            content = json.dumps(objects, ensure_ascii=False)
        else:
            content = "".join(f"{json.dumps(each, ensure_ascii=suffix == '.jsonl')}\n" for each in objects)
    path.write_bytes(pack(content.encode(encoding), path.suffix.lower()))
    return path


def pack(content: bytes, suffix: str) -> bytes:
    """Compressed as the suffix says, or as it is."""
    return PACKERS[suffix](content) if suffix in PACKERS else content


def _zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd}
