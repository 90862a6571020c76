"""Quoting of overrides, so that Hydra reads paths, columns and labels with blanks, brackets or ``=`` literally.

Hydra's grammar gives meaning to most characters, and types to ``1``, ``true`` and ``null``. The value of a key that
holds a text (`config.texts`) is quoted here. A value that is quoted already, or that Hydra reads literally, stays
unchanged, so that quoting twice does no harm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError

from sharcs_pl.config.texts import Text, texts_of

_HYDRAS = {"hydra.run.dir": Text(path=True), "hydra.sweep.dir": Text(path=True), "hydra.sweep.subdir": Text()}
_MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")
_SWEEPS = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|extend_list)\(.*\)", re.DOTALL)
_QUOTES = "'\""
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_UNREAD = object()
_PLAIN = re.compile(r"[A-Za-z_][\w.]*")  # needs no quotes, unless Hydra has a meaning for it


def quote_texts(words: Sequence[str], schema: type) -> list[str]:
    """Return the words, with values of text keys quoted if Hydra would change them, and with ``~`` in paths expanded.

    With ``-m`` a comma still separates the values of a sweep.
    """
    known = _HYDRAS | dict(texts_of(schema))
    sweeps = not {*_MULTIRUN}.isdisjoint(words)
    return [_word(word, known, sweeps) for word in words]


def _word(word: str, known: dict[str, Text], sweeps: bool) -> str:
    key, equals, value = word.partition("=")
    how = known.get(key.lstrip("+"))
    if how is None or not equals or not value:
        return word
    if not sweeps:
        return f"{key}={_value(value, how)}"
    if _SWEEPS.fullmatch(value) and _read(value) is not _UNREAD:
        return word
    return f"{key}={','.join(_value(part, how) for part in _split(value))}"


def _value(value: str, how: Text) -> str:
    bracketed = value.startswith("[") and value.endswith("]")
    if not how.many and not (how.listed and bracketed):
        return _quoted(value, how)
    if bracketed:
        parts = _split(value[1:-1])
        return f"[{','.join(_quoted(part.strip(), replace(how, null=False)) for part in parts)}]" if parts else value
    # Two texts without brackets stay unquoted, so that Hydra reports the error.
    return value if len(_split(value)) > 1 else _quoted(value, how)


def _quoted(value: str, how: Text) -> str:
    """Return a single text in a form that Hydra reads unchanged."""
    if not value or _is_quoted(value):
        return value
    if how.path:
        value = os.path.expanduser(value)
    found = _read(value)
    if found == value or (isinstance(found, str) and "\\" in value):  # with Hydra's own escapes
        return value
    if found is None and how.null:
        return value
    if how.number and isinstance(found, int | float) and not isinstance(found, bool):
        return value
    return quote(value)


def quote(text: str) -> str:
    """Return the text in quotes, escaped for Hydra's grammar. A valid ``${…}`` stays an interpolation."""
    inner = re.sub(r'(\\*)"', r"\1\1\"", text)
    inner = re.sub(r"(\\+)$", r"\1\1", inner)
    return '"{}"'.format(inner if _interpolates(text) else inner.replace("${", "\\${"))


def key_of(word: str) -> str:
    """Return the key of an override as it is typed."""
    return word.partition("=")[0].lstrip("+~")


def override(key: str, value: Any) -> str:
    """Return a Python value as an override that Hydra reads as that value. Raise ``ValueError`` naming the key of a
    value that no config holds."""
    return f"{key}={_spelled(key, value)}"


def _spelled(key: str, value: Any) -> str:
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value  # a number of numpy
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | os.PathLike):
        text = str(value)
        return text if _PLAIN.fullmatch(text) and _read(text) == text else quote(text)
    if isinstance(value, Mapping) and all(isinstance(name, str) and _PLAIN.fullmatch(name) for name in value):
        return f"{{{','.join(f'{name}:{_spelled(key, each)}' for name, each in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return f"[{','.join(_spelled(key, each) for each in value)}]"
    raise ValueError(
        f"{key} is {type(value).__name__}, which no config holds; give a text, a number, a list, or a dict of names"
    )


def _interpolates(text: str) -> bool:
    try:
        OmegaConf.create([text])
    except GrammarParseError:
        return False
    return True


def _is_quoted(value: str) -> bool:
    return value[0] in _QUOTES and value[-1] == value[0] and isinstance(_read(value), str)


def _read(value: str) -> Any:
    """Return the value that Hydra reads, or `_UNREAD` if it fails or takes the text for the values of a sweep."""
    try:
        found = _parser().parse_override(f"key={value}")
    except HydraException:
        return _UNREAD
    return _UNREAD if found.is_sweep_override() and not _SWEEPS.fullmatch(value) else found.value()


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _split(text: str) -> list[str]:
    """Return the parts between the commas that are outside of quotes and brackets."""
    return [text[begin:end] for begin, end in _parts(text)] if text else []


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each part. A quote opens only at the start of a part, and only if it closes."""
    begin, closing = 0, ""
    for at, letter in enumerate(text):
        if closing:
            if letter == closing[-1] and text[at - 1] != "\\":
                closing = closing[:-1]
            elif closing[-1] not in _QUOTES:
                closing += _closes(text, at, letter)
        elif letter == "," and text[at - 1 : at] != "\\":
            yield begin, at
            begin = at + 1
        elif letter not in _QUOTES or not text[begin:at].strip():
            closing = _closes(text, at, letter)
    yield begin, len(text)


def _closes(text: str, at: int, letter: str) -> str:
    """Return the character that closes the quote or bracket at this position, or "" if nothing does."""
    closing = letter if letter in _QUOTES else _CLOSING.get(letter, "")
    return closing if closing and closing in text[at + 1 :] else ""
