"""Marks for keys that hold a text of the user, such as a path, column or label, which is read exactly as typed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

_METADATA = "sharcs_pl.text"


@dataclass(frozen=True)
class Text:
    """The reading of a key's text. ``path``: ``~`` is the home folder. ``null``: the word null unsets the key.
    ``number``: a number stays a number. ``many``: the key is a list of texts, ``[a,b]``. ``listed``: the key may be
    such a list, and any other value is one text."""

    path: bool = False
    null: bool = True
    number: bool = False
    many: bool = False
    listed: bool = False


TEXT = {_METADATA: Text()}  # metadata of a dataclass field
TEXTS = {_METADATA: Text(many=True)}
PATH = {_METADATA: Text(path=True)}
PATHS = {_METADATA: Text(path=True, many=True)}
PATH_OR_PATHS = {_METADATA: Text(path=True, null=False, listed=True)}  # a required path or a list of some
PATH_OR_NUMBER = {_METADATA: Text(path=True, number=True)}
COLUMN = {_METADATA: Text(null=False, listed=True)}  # a required column or a list of some, which may be called null
COLUMNS = {_METADATA: Text(null=False, many=True)}


def texts_of(schema: type, prefix: str = "") -> Iterator[tuple[str, Text]]:
    """Yield the dotted key and the mark of every text in a config dataclass and its groups."""
    for each in fields(schema):
        factory: Any = each.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            yield from texts_of(factory, f"{prefix}{each.name}.")
        elif _METADATA in each.metadata:
            yield prefix + each.name, each.metadata[_METADATA]
