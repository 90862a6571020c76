"""Lines of a text file with their places, and what a reader says of one that it cannot take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sharcs_pl.data.containers import UTF8, Opened, reading

NOT_UTF8 = re.compile("[\ud800-\udfff]")  # bytes that did not decode, as Python's surrogateescape spells them
_LONE_RETURN = re.compile("(?<=\r)(?!\n|$)")
_LONGEST_HEAD = 1000  # lines


@dataclass(frozen=True)
class Fault:
    """A row that cannot be read: where it stands ('tickets.csv, line 12') and why; `ends`: nothing can be read after
    it."""

    place: str
    reason: str
    ends: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class TextLines:
    """The lines of an opened file as text, any of which may turn out not to be in its encoding.

    `returns`: a carriage return alone ends a line too. `key`: the one that names an encoding. A byte-order mark is no
    part of the first line. `number`: the line last given, from 1. `taken`: the lines given since `begin`; `fault`: the
    first of them that does not decode.
    """

    def __init__(self, source: Opened, key: str, *, returns: bool) -> None:
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
        """Forget the lines of the row before."""
        self.taken.clear()
        self.fault = None

    def place(self, number: int) -> str:
        """How a line of this file is called."""
        return f"{self.name}, line {number}"

    def head(self, quotes: bool) -> list[str]:
        """The lines up to the first row's end, blank ones before it included; the iteration gives them again.

        `quotes`: a row ends where its quotes are closed.
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
        """The bytes of a line; what does not decode in it is kept as `fault`."""
        wrong = NOT_UTF8.search(line)
        if wrong and self.fault is None:
            self.fault = Fault(self.place(self.number), self._undecoded(line, wrong.start()))
        self._proved = self._proved or not wrong
        return _num_bytes(line)

    def _undecoded(self, line: str, at: int) -> str:
        if self._source.encoding != UTF8:
            return f"not {self._source.encoding}"
        byte = self._byte + _num_bytes(line[:at])
        # After a line with other characters than those of ASCII this is one bad byte, not another encoding.
        hint = "" if self._proved else reading(line, at, self._byte, self._key)
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
