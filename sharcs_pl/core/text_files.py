"""What separates the cells of a text file and which encoding it is in, as keys of a command say it."""

from __future__ import annotations

import codecs
from difflib import get_close_matches
from encodings.aliases import aliases

DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""What a shell does not let through as it is has a name."""

_NO_CHARSETS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape"}  # Python's own ways of spelling characters


def delimiter_of(key: str, value: str) -> str:
    """The character that a value names; ``ValueError`` naming ``key`` where it can separate no cells.

    A letter or a digit is refused: it is what a shell leaves of ``\\t``.
    """
    found = {**DELIMITER_NAMES, "\\t": "\t"}.get(value.lower(), value)
    if len(found) != 1 or found.isalnum() or found in '"\r\n':
        hint = "; did you mean tab?" if found == "t" else ""
        names = ", ".join(DELIMITER_NAMES)
        raise ValueError(f"{key}={value} is no delimiter; give one character, or one of: {names}{hint}")
    return found


def delimiter_name(character: str) -> str:
    """The value of a key that stands for this character."""
    return next((name for name, each in DELIMITER_NAMES.items() if each == character), character)


def encoding_of(key: str, name: str) -> str:
    """Python's name of an encoding of texts; ``ValueError`` naming ``key`` and the closest ones where there is none."""
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
        "".encode(name)  # what is no encoding of texts refuses to
    except (LookupError, ValueError):
        return None
    return None if found in _NO_CHARSETS else found
