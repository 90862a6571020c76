"""Rows of JSON files, which hold an object per line or a list of objects."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from sharcs_pl.data.columns import Request, Row, columns_fault
from sharcs_pl.data.containers import Opened, reading
from sharcs_pl.data.lines import NOT_UTF8, Fault, TextLines
from sharcs_pl.data.shown import listed, shown

Record = tuple[str, dict[str, Any]]
"""The place of an object, and the object."""

_EXPECTED = 'a .json file holds a list of objects, [{"text": …}, …], or an object per line'
_BUFFER = 1 << 16  # bytes
_NEAR_THE_END = 16  # characters, the greatest length of a truncated literal or escape
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def read_jsonl(source: Opened, request: Request) -> Iterator[Row | Fault]:
    """Yield the rows of a file with an object per line."""
    return _rows(_lines(source, request), request)


def read_json(source: Opened, request: Request) -> Iterator[Row | Fault]:
    """Yield the rows of a file with a list of objects or an object per line. Raise `ValueError` for another layout."""
    start = source.file.peek(1).removeprefix(codecs.BOM_UTF8).lstrip()
    found = _items(source, request) if start[:1] == b"[" else _objects(source, request)
    return _rows(found, request)


def _rows(found: Iterator[Record | Fault], request: Request) -> Iterator[Row | Fault]:
    columns: tuple[str, ...] = ()
    for record in found:
        if isinstance(record, Fault):
            yield record
            continue
        place, values = record
        columns = columns or request.present(values)
        yield _row(place, values, columns, request.optional)


def _row(place: str, record: dict[str, Any], columns: Sequence[str], optional: Sequence[str]) -> Row | Fault:
    late = next((name for name in optional if name in record and name not in columns), None)
    if late is not None:
        return Fault(place, f"has {shown(late)}, which the rows before it lack")
    missing = columns_fault(list(record), columns)
    if missing:
        return Fault(place, missing)
    values = tuple([record[column] for column in columns])
    for column, value in zip(columns, values, strict=True):
        half = _half_pair(value)
        if half:
            return Fault(place, f"{shown(column)} holds {half}, half of a surrogate pair: no UTF-8")
    return place, values


def _half_pair(value: Any) -> str | None:
    """Return half of a surrogate pair in a value, or None. JSON can spell it, but UTF-8 and tokenizers refuse it."""
    if not isinstance(value, str | list | dict):
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return shown(text[error.start])
    return None


def _lines(source: Opened, request: Request) -> Iterator[Record | Fault]:
    key = request.key("encoding")
    lines = TextLines(source, key, returns=False)
    for line in lines:
        fault, place = lines.fault, lines.place(lines.number)
        lines.begin()
        if fault:
            yield fault
        elif line.strip():
            yield _parsed(place, line.rstrip("\r\n"), key)


def _parsed(place: str, line: str, key: str) -> Record | Fault:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        hint = reading(line, 0, 0, key) if "\0" in line else ""
        return Fault(place, f"invalid JSON: {error.msg} at column {error.colno}{hint}")
    except (ValueError, RecursionError) as error:  # a number of too many digits, lists within lists within lists
        return Fault(place, f"invalid JSON: {shown(str(error))}")
    return _object(place, record)


def _object(place: str, record: Any) -> Record | Fault:
    if not isinstance(record, dict):
        return Fault(place, f"{shown(record)} is not an object with the columns as keys")
    return place, record


def _objects(source: Opened, request: Request) -> Iterator[Record | Fault]:
    """Yield the objects of a `.json` file that is not a list. Raise `ValueError` for another layout: a first object
    that spans several lines or holds all rows or columns."""
    found = _lines(source, request)
    first = next(found, None)
    if first is None:
        return
    if isinstance(first, Fault):
        raise ValueError(f"{first}; {_EXPECTED}")
    holders = [value for value in first[1].values() if isinstance(value, dict | list)]
    lacks = columns_fault(list(first[1]), request.columns)
    texts = [name for name in request.columns if name not in request.lists]
    if holders and (lacks or any(isinstance(first[1][name], dict | list) for name in texts)):
        raise ValueError(f"{source.name}: one object with the keys {listed(first[1])}; {_EXPECTED}")
    yield from chain([first], found)


def _items(source: Opened, request: Request) -> Iterator[Record | Fault]:
    """Yield the objects of a list with one in memory at a time."""
    text, number, end = _Text(source), 0, ""
    text.skip("[")
    while end != "]":
        number += 1
        place = f"{source.name}, item {number}"
        if number == 1 and text.next() == "]":
            break
        try:
            value, raw = text.value()
        except json.JSONDecodeError as error:
            hint = reading("\0", 0, 1, request.key("encoding")) if text.next() == "\0" else ""  # of UTF-16
            where = f"line {text.line(error)} column {error.colno}"
            yield Fault(place, f"invalid JSON: {error.msg} at {where}{hint}", ends=True)
            return
        except (ValueError, RecursionError) as error:
            yield Fault(place, f"invalid JSON: {shown(str(error))}", ends=True)
            return
        wrong = None if raw.isascii() else NOT_UTF8.search(raw)
        yield Fault(place, _undecoded(source, raw, wrong.start(), request)) if wrong else _object(place, value)
        end = text.next()
        if end not in (",", "]"):
            what = f"{shown(end)} where a comma or the list's end belongs" if end else "the file ends within its list"
            yield Fault(place, f"invalid JSON: {what}", ends=True)
            return
        text.skip(end)
    if end and text.next():
        yield Fault(source.name, "invalid JSON: there is more after the list", ends=True)


def _undecoded(source: Opened, raw: str, at: int, request: Request) -> str:
    utf8 = source.encoding == "utf-8"
    return f"not UTF-8{reading(raw, at, 0, request.key('encoding'))}" if utf8 else f"not {source.encoding}"


class _Text:
    """A parser for the characters of a file, with a window of them in memory."""

    def __init__(self, source: Opened) -> None:
        self._file = source.file
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._lines = 0  # before the window

    def next(self) -> str:
        """Return the next character that is not white space without consuming it, "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, character: str) -> None:
        """Consume the next character, which is known."""
        while self.next() != character:  # a byte-order mark before it
            self._at += 1
        self._at += 1

    def value(self) -> tuple[Any, str]:
        """Return the next value and its source text. Raise `JSONDecodeError` if there is none."""
        self.next()
        self._forget()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR_THE_END
                if cut and self._more():
                    continue
                raise
            if end == len(self._text) and self._more():
                continue  # a number may go on
            raw, self._at = self._text[self._at : end], end
            return value, raw

    def line(self, error: json.JSONDecodeError) -> int:
        """Return the line of the file in which an error occurred."""
        return self._lines + error.lineno

    def _forget(self) -> None:
        if self._at > _BUFFER:
            self._lines += self._text.count("\n", 0, self._at)
            self._text, self._at = self._text[self._at :], 0

    def _more(self) -> bool:
        """Extend the window, which doubles for a value that is not yet whole. Return False at the end."""
        chunk = self._file.read(max(_BUFFER, len(self._text) - self._at))
        self._text += self._decoder.decode(chunk, not chunk)
        return bool(chunk)
