"""Lines of a text file with their places, and what a reader says of one that it cannot take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that did not decode, as Python's surrogateescape spells them
_LONE_RETURN = re.compile("(?<=\r)(?!\n|$)")


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
    """The lines of a binary file as text, for any of which the file may turn out not to be UTF-8.

    `returns`: a carriage return alone ends a line too. A byte-order mark is no part of the first line. `number`: the
    line last given, from 1. `taken`: the lines given since `begin`; `fault`: the first of them that is not UTF-8.
    """

    def __init__(self, file: BinaryIO, name: str, *, returns: bool) -> None:
        self._lines = self._split(file) if returns else map(_decode, file)
        self._byte = 0
        self.name = name
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
        """The bytes of a line; what is not UTF-8 in it is kept as `fault`."""
        wrong = _NOT_UTF8.search(line)
        if wrong and self.fault is None:
            byte = self._byte + _num_bytes(line[: wrong.start()])
            self.fault = Fault(self.place(self.number), f"not UTF-8 at byte {byte} of the file")
        return _num_bytes(line)

    @staticmethod
    def _split(file: BinaryIO) -> Iterator[str]:
        for line in map(_decode, file):
            if "\r" in line:
                yield from _LONE_RETURN.split(line)
            else:
                yield line


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def shown(value: object, limit: int = 60) -> str:
    """A value as one short line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 2]}…{text[-1]}"


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
