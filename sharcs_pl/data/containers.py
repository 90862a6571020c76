"""Streams of the bytes of a file, decompressed and converted to UTF-8, and compressed ones to write to.

No more than a few buffers of a file are in memory.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sharcs_pl.core.errors import DataWarning

UTF8 = "utf-8"
_BUFFER = 1 << 16  # bytes
_MARKS = {  # the longer ones first, because the mark of UTF-32 begins with the mark of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: UTF8,
}
_UNORDERED = ("utf-16", "utf-32")  # names without a byte order
_UNPACK_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_LONGEST_SHOWN = 12  # bytes before and after the first that is not UTF-8
_BETWEEN_WORDS = re.compile(rb'[\s,;|"]')

# Undecodable bytes are replaced by a lone surrogate, which UTF-8 cannot hold, so that readers find them.
codecs.register_error("sharcs_undecoded", lambda error: ("\udcff", getattr(error, "end")))  # noqa: B009


class Damaged(Exception):
    """A compressed file is truncated or not in its format."""


@dataclass(frozen=True)
class Opened:
    """An open file, decompressed and in UTF-8 except for undecodable bytes. `encoding`: its original encoding."""

    file: io.BufferedReader
    name: str
    encoding: str = UTF8


def format_of(path: Path) -> tuple[str, str | None]:
    """Return the suffixes of the format and of the compression (or None), `.csv` and `.gz` for `a.csv.gz`."""
    suffix = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), suffix) if suffix in UNPACKERS else (suffix, None)


@contextmanager
def opened(path: Path, encoding: str | None, key: str) -> Iterator[Opened]:
    """Open a text file. `encoding`, given by the key `key`, applies without a byte-order mark; None is UTF-8.

    Reading the file may raise `Damaged`.
    """
    with path.open("rb") as file:
        packed = format_of(path)[1]
        unpacked = file if packed is None else _buffered(_Unpacked(file, packed))
        yield decoded(unpacked, path.name, encoding, key)


@contextmanager
def opened_to_write(path: Path, packed: str | None) -> Iterator[BinaryIO]:
    """Open a new file, compressed as its suffix `packed` will say. The same content gives the same bytes."""
    with path.open("wb") as file:
        if packed is None:
            yield file
        else:
            with PACKERS[packed](file) as stream:
                yield stream


@contextmanager
def standard_input(encoding: str | None, key: str) -> Iterator[Opened]:
    """Open stdin with a new reader, since Python cannot exit while a thread waits for the one of `sys`."""
    yield decoded(os.fdopen(0, "rb", closefd=False), "stdin", encoding, key)


def decoded(file: io.BufferedReader, name: str, encoding: str | None, key: str) -> Opened:
    """Convert a file to UTF-8 from the encoding of its byte-order mark, else from `encoding`. A UTF-8 mark stays."""
    start = file.peek(4)
    marked, _ = mark_of(start)
    if start[:1] in (b"\xff", b"\xfe", b"\0"):  # not UTF-8; a pipe may have sent only a part of the mark
        head = file.read(4)
        marked, length = mark_of(head)
        file = _buffered(_Ahead(head[length:], file))
    found = marked or codecs.lookup(encoding or UTF8).name.replace("utf-8-sig", UTF8)
    if found in _UNORDERED:
        raise ValueError(f"{name}: no byte-order mark at its start; give {key}={found}-le or {key}={found}-be")
    if found == UTF8:
        return Opened(file, name)
    if marked is None:
        _warn_of_utf8(file, name, f"{key}={encoding}")
    return Opened(_buffered(_Transcoded(file, found)), name, found)


def mark_of(head: bytes) -> tuple[str | None, int]:
    """Return the encoding and the length of the byte-order mark of a file, (None, 0) without a mark."""
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    return _MARKS.get(mark), len(mark)


def _warn_of_utf8(file: io.BufferedReader, name: str, given: str) -> None:
    """Warn if a file is valid UTF-8 beyond ASCII, since it is then hardly ever in another encoding."""
    start = file.peek(1)
    start = start[: start.rfind(b"\n") + 1]
    try:
        text = start.decode(UTF8)
    except UnicodeDecodeError:
        return
    if not text.isascii():
        warnings.warn(f"{name} looks like UTF-8 and is read with {given}", DataWarning, stacklevel=4)


def reading(line: str, at: int, byte: int, key: str) -> str:
    """Return a hint for a line that is not UTF-8 from the character `at` on: the likeliest encoding and its reading.

    `byte`: position of the start of the line in the file.
    """
    raw = line.encode(UTF8, "surrogateescape")
    zero = raw.find(b"\0")
    if zero >= 0:
        return f"; if it is UTF-16: {key}=utf-16-{'le' if (byte + zero) % 2 else 'be'}"
    start = len(line[:at].encode(UTF8, "surrogateescape"))
    before = _BETWEEN_WORDS.split(raw[max(0, start - _LONGEST_SHOWN) : start])[-1]
    word = before + _BETWEEN_WORDS.split(raw[start : start + _LONGEST_SHOWN])[0]
    try:
        name, text = "cp1252", word.decode("cp1252")
    except UnicodeDecodeError:
        name, text = "latin-1", word.decode("latin-1")
    return f"; {key}={name} would read {text!r} here"


class _Raw(io.RawIOBase):
    """A stream made from `_next`, which returns some bytes, and none at the end."""

    def __init__(self) -> None:
        self._left = b""

    def _next(self) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._left or self._next()
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        self._left = data[size:]
        return size


class _Ahead(_Raw):
    """A stream with bytes put back in front of it."""

    def __init__(self, head: bytes, file: io.BufferedReader) -> None:
        super().__init__()
        self._head = head
        self._file = file

    def _next(self) -> bytes:
        head, self._head = self._head, b""
        return head + self._file.read1(_BUFFER)


class _Unpacked(_Raw):
    """A decompressed stream, which raises `Damaged` if the file is not whole."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        super().__init__()
        self._kind = suffix[1:]
        self._file = file
        self._stream: Any = None

    def _next(self) -> bytes:
        try:
            self._stream = self._stream or UNPACKERS[f".{self._kind}"](self._file)
            return self._stream.read(_BUFFER)
        except _UNPACK_ERRORS as error:
            why = " ".join(str(error).split())[:100]
            raise Damaged(f"not a whole .{self._kind} file: {why}") from error


class _Transcoded(_Raw):
    """A stream that converts text in another encoding to UTF-8."""

    def __init__(self, file: io.BufferedReader, encoding: str) -> None:
        super().__init__()
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("sharcs_undecoded")

    def _next(self) -> bytes:
        while True:
            chunk = self._file.read1(_BUFFER)
            text = self._decoder.decode(chunk, not chunk)
            if text or not chunk:
                return text.encode(UTF8, "surrogatepass")


def _buffered(raw: _Raw) -> io.BufferedReader:
    reader: Any = io.BufferedReader(raw, _BUFFER)  # the type stubs distinguish readers of different streams
    return reader


def _unpack_zstd(file: BinaryIO) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(file, "zstd")


UNPACKERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _unpack_zstd,
}
"""The decompressing stream for each suffix."""


def _pack_zstd(file: BinaryIO) -> Any:
    import pyarrow as pa

    return pa.CompressedOutputStream(file, "zstd")


PACKERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0),  # neither name nor time, and gzip's own level
    ".bz2": partial(bz2.BZ2File, mode="wb"),
    ".xz": partial(lzma.LZMAFile, mode="wb"),
    ".zst": _pack_zstd,
}
"""The compressing stream for each suffix."""
