"""The help text of every config key, the string under its field, for ``--help`` and the configuration reference."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any


def describe(schema: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield ``(dotted key, default, help text)`` of every key of a config dataclass and its groups."""
    texts = field_texts(schema)
    for field in fields(schema):
        factory: Any = field.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            yield from describe(factory, f"{prefix}{field.name}.")
            continue
        default = factory() if callable(factory) else field.default
        yield prefix + field.name, show_default(default), texts.get(field.name, "")


def takes_list(schema: type, key: str) -> bool:
    """Return True if a dotted key of a config dataclass may hold a list, by its type, or by its help text if the type
    is Any."""
    for field in fields(schema):
        factory: Any = field.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            if key.startswith(f"{field.name}."):
                return takes_list(factory, key.removeprefix(f"{field.name}."))
        elif field.name == key:
            kind, text = str(field.type), field_texts(schema).get(key, "")
            return "list" in kind or ("Any" in kind and re.search(r"\blist\b", text) is not None)
    return False


@cache
def field_texts(schema: type) -> dict[str, str]:
    """Return the help texts by field name. A help text is the string literal after the field in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(text, ast.Constant):
            found[node.target.id] = " ".join(str(text.value).split())
    return found


def show_default(value: Any) -> str:
    """Return a default in the notation of yaml and the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("'", "")
