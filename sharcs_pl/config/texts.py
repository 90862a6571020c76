"""Which keys hold a text of the user's own: a path, a column, a label. The command line takes it as it is typed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

_METADATA = "sharcs_pl.text"


@dataclass(frozen=True)
class Text:
    """How a key's text is read. ``path``: ``~`` is the home folder. ``null``: the word unsets the key. ``number``: a
    number stays one. ``many``: ``[a,b]`` is a list of texts."""

    path: bool = False
    null: bool = True
    number: bool = False
    many: bool = False


TEXT = {_METADATA: Text()}  # of a dataclass field, likewise the others
TEXTS = {_METADATA: Text(many=True)}
PATH = {_METADATA: Text(path=True)}
PATHS = {_METADATA: Text(path=True, many=True)}
PATH_OR_NUMBER = {_METADATA: Text(path=True, number=True)}
COLUMN = {_METADATA: Text(null=False)}  # one that must be named: null is a name too
COLUMNS = {_METADATA: Text(null=False, many=True)}


def texts_of(schema: type, prefix: str = "") -> Iterator[tuple[str, Text]]:
    """Dotted key of every text of a config dataclass, groups opened."""
    for each in fields(schema):
        factory: Any = each.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            yield from texts_of(factory, f"{prefix}{each.name}.")
        elif _METADATA in each.metadata:
            yield prefix + each.name, each.metadata[_METADATA]
