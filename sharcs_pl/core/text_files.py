"""Delimiters and encodings of text files, as the keys of a command give them."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from difflib import get_close_matches
from encodings.aliases import aliases
from typing import TextIO

DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""Names for delimiters that a shell would interpret."""

_NO_CHARSETS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape"}  # Python's own ways of spelling characters


def delimiter_of(key: str, value: str) -> str:
    """Return the character that a value names. Raise ``ValueError`` naming ``key`` if it cannot separate cells.

    Letters and digits are refused, because a shell turns ``\\t`` into a letter.
    """
    found = {**DELIMITER_NAMES, "\\t": "\t"}.get(value.lower(), value)
    if len(found) != 1 or found.isalnum() or found in '"\r\n':
        hint = "; did you mean tab?" if found == "t" else ""
        names = ", ".join(DELIMITER_NAMES)
        raise ValueError(f"{key}={value} is no delimiter; give one character, or one of: {names}{hint}")
    return found


def delimiter_name(character: str) -> str:
    """Return the value of a key that stands for a character."""
    return next((name for name, each in DELIMITER_NAMES.items() if each == character), character)


def encoding_of(key: str, name: str) -> str:
    """Return Python's name of a text encoding. Raise ``ValueError`` naming ``key`` and close names if it is unknown."""
    found = _charset(name)
    if found is None:
        known = sorted({*aliases, *aliases.values()})
        close = get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), known, 6)
        one_each = {_charset(each): each for each in reversed(close)}
        names = [each for each in close if each in one_each.values() and _charset(each)]
        hint = f"did you mean {' or '.join(names[:3])}?" if names else "give one such as latin-1, cp1252 or utf-16-le"
        raise ValueError(f"{key}={name} is no encoding of texts; {hint}")
    return found


def _charset(name: str) -> str | None:
    try:
        found = codecs.lookup(name).name
        "".encode(name)  # raises for a codec that does not encode text
    except (LookupError, ValueError):
        return None
    return None if found in _NO_CHARSETS else found


class CellWriter:
    """Rows of a CSV or TSV file whose texts come back unchanged.

    The csv module does not quote a lone carriage return, at which readers would end the row; a row that has one is
    quoted whole.
    """

    def __init__(self, file: TextIO, delimiter: str) -> None:
        self._plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._quoting = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(self, cells: Sequence[object]) -> None:
        """Write one row."""
        lone = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (self._quoting if lone else self._plain).writerow(cells)
