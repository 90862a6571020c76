"""The journal of a prediction: its finished rows, kept beside its output, from which an interrupted one goes on.

It is a JSONL file. Its first line is the fingerprint of all that the answers depend on; then comes a line per row in
order: an object for an answer, ``[row, place, error]`` for a rejected row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from sharcs_pl.data.files import shown

Record = dict[str, Any] | list[Any]

_SECONDS = 1.0  # between two writes to the disk


def journal_path(output: Path) -> Path:
    """Return the path of the journal of an output."""
    return output.with_name(output.name + ".part")


class Journal:
    """A file of rows that are added at the end, and read again from the start. `rows` is their number."""

    def __init__(self, path: Path, file: BinaryIO, rows: int) -> None:
        self.path = path
        self.rows = rows
        self._file = file
        self._written = time.monotonic()

    @classmethod
    def begin(cls, path: Path, fingerprint: Mapping[str, Any]) -> Journal:
        """Begin an empty journal, in the place of any that is there."""
        line = _line(fingerprint)
        file = path.open("wb")
        file.write(line)
        file.flush()
        return cls(path, file, 0)

    @classmethod
    def resume(cls, path: Path, fingerprint: Mapping[str, Any], segment: int) -> Journal:
        """Open the existing journal up to its last whole `segment` of rows, or a new one: rows are answered by
        segments, which give equal answers only as a whole. Raise `ValueError` for another fingerprint."""
        if not path.exists():
            return cls.begin(path, fingerprint)
        check_fingerprint(path, fingerprint)
        rows, size = _whole_rows(path, segment)
        file = path.open("r+b")
        file.truncate(size)
        file.seek(size)
        return cls(path, file, rows)

    def add(self, record: Record) -> None:
        """Add one row; it is on the disk within a second or so."""
        self._file.write(_line(record))
        self.rows += 1
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write everything to the disk."""
        self._file.flush()
        self._written = time.monotonic()

    def records(self) -> Iterator[Record]:
        """Yield all rows from the first."""
        self.flush()
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Remove the journal, since the output is there or can never be."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def check_fingerprint(path: Path, fingerprint: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming what has changed since a journal was begun."""
    begun = _first_line(path)
    if not isinstance(begun, dict):
        raise ValueError(f"resume=true: {path} is no record of an interrupted prediction; remove it to begin again")
    if changed := difference(begun, fingerprint):
        raise ValueError(f"resume=true: {path} was begun with {changed}; begin again without resume=true")


def difference(begun: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> str | None:
    """Return what has changed since answers were begun, ``another mode: it was …``, or None."""
    for key, now in json.loads(_line(fingerprint)).items():
        then = begun.get(key)
        if then != now:
            return f"another {key}: it was {shown(then)}, now it is {shown(now)}"
    return None


def begun_with(path: Path) -> dict[str, Any] | None:
    """Return the fingerprint of a journal; None without a journal, or if its process was killed before that was
    written. Raise `ValueError` for another file at its place."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        torn = not file.readline().endswith(b"\n")
    begun = None if torn else _first_line(path)
    if not torn and not isinstance(begun, dict):
        raise ValueError(f"{path} is no record of an interrupted prediction; move it away")
    return begun


def _first_line(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.readline())
    except ValueError:
        return None


def _whole_rows(path: Path, segment: int) -> tuple[int, int]:
    """Return the number of rows in whole segments, and the bytes of the file up to there."""
    rows = size = whole_rows = whole_size = 0
    with path.open("rb") as file:
        size = whole_size = len(file.readline())
        for line in file:
            if not _is_record(line):
                break
            rows, size = rows + 1, size + len(line)
            if rows % segment == 0:
                whole_rows, whole_size = rows, size
    return whole_rows, whole_size


def _is_record(line: bytes) -> bool:
    """Return True if a line is whole; the last one may have been torn."""
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict | list)
    except ValueError:
        return False


def _line(value: Mapping[str, Any] | list[Any]) -> bytes:
    # A path may hold bytes that are no UTF-8; json reads them back in this form.
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="surrogatepass") + b"\n"
