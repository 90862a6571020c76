"""Lines of a text file with their places, and the faults of unreadable ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sharcs_pl.data.containers import UTF8, Opened, reading

NOT_UTF8 = re.compile("[\ud800-\udfff]")  # undecodable bytes, written by Python's surrogateescape
_LONE_RETURN = re.compile("(?<=\r)(?!\n|$)")
_LONGEST_HEAD = 1000  # lines


@dataclass(frozen=True)
class Fault:
    """A row that cannot be read, with its place ('tickets.csv, line 12') and the reason. `ends`: True if nothing can be
    read after it."""

    place: str
    reason: str
    ends: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class TextLines:
    """An iterator over the lines of an opened file as text, without a byte-order mark.

    `returns`: a lone carriage return also ends a line. `key`: the key of the encoding, None without one. `number`: the
    number of the last line, from 1. `taken`: the lines since `begin`. `fault`: the fault of the first of them that does
    not decode.
    """

    def __init__(self, source: Opened, key: str | None, *, returns: bool) -> None:
        self._lines = self._split(source) if returns else map(_decode, source.file)
        self._source = source
        self._key = key
        self._byte = 0
        self._proved = False
        self.name = source.name
        self.number = 0
        self.taken: list[str] = []
        self.fault: Fault | None = None

    def begin(self) -> None:
        """Forget the lines of the previous row."""
        self.taken.clear()
        self.fault = None

    def place(self, number: int) -> str:
        """Return the name of a line of this file in messages."""
        return f"{self.name}, line {number}"

    def head(self, quotes: bool) -> list[str]:
        """Return the lines up to the end of the first row, with blank ones before it, without consuming them.

        `quotes`: a row ends only after its quotes are closed.
        """
        found: list[str] = []
        marks = 0
        for line in self._lines:
            found.append(line)
            text = line.removeprefix("\ufeff") if self.number == 0 and len(found) == 1 else line
            marks += text.count('"') if quotes else 0
            if (text.strip("\r\n") and marks % 2 == 0) or len(found) == _LONGEST_HEAD:
                break
        self._lines = chain(found, self._lines)
        return [found[0].removeprefix("\ufeff"), *found[1:]] if found and self.number == 0 else found

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        size = len(line) if line.isascii() else self._checked(line)
        if self.number == 1:
            line = line.removeprefix("\ufeff")
        self._byte += size
        self.taken.append(line)
        return line

    def _checked(self, line: str) -> int:
        """Return the number of bytes of a line, and keep its first decoding error as `fault`."""
        wrong = NOT_UTF8.search(line)
        if wrong and self.fault is None:
            self.fault = Fault(self.place(self.number), self._undecoded(line, wrong.start()))
        self._proved = self._proved or not wrong
        return _num_bytes(line)

    def _undecoded(self, line: str, at: int) -> str:
        if self._source.encoding != UTF8:
            return f"not {self._source.encoding}"
        byte = self._byte + _num_bytes(line[:at])
        # After a valid line with characters beyond ASCII this is a single bad byte, not another encoding.
        hint = "" if self._proved or self._key is None else reading(line, at, self._byte, self._key)
        return f"not UTF-8 at byte {byte} of the file{hint}"

    @staticmethod
    def _split(source: Opened) -> Iterator[str]:
        for line in map(_decode, source.file):
            if "\r" in line:
                yield from _LONE_RETURN.split(line)
            else:
                yield line


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
