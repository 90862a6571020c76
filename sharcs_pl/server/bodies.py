"""The body of a request: read and checked, each fault one line that names the key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.core.text import one_line
from sharcs_pl.data.lines import NOT_UTF8
from sharcs_pl.data.shown import listed, shown
from sharcs_pl.server.offer import Offer

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import Text

KEYS = ("text", "texts", "point", "explain")
_TEXT = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": {"description": "One text, or a pair of texts as a list of two.", **_TEXT},
        "texts": {"description": "Several of them, in place of text.", "type": "array", "items": _TEXT, "minItems": 1},
        "point": {"description": "Operating point that routes.", "type": "string"},
        "explain": {"description": "Add the router's score of every rung.", "type": "boolean", "default": False},
    },
    "example": {"texts": ["a first text", "a second text"]},
}
"""The body as ``/docs`` shows it."""


class Refused(Exception):
    """A request without an answer: the status and one line that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """The texts of a request, and the operating point it names."""

    texts: list[Text]
    point: str | None
    explain: bool


def read_body(body: bytes, offer: Offer, config: ServeConfig) -> Asked:
    """Return what a body asks for. Raise `Refused` with 400 for what is no JSON object, and with 422 for a value."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise Refused(400, f'the body must be a JSON object such as {{"text": "a text"}}, not {one_line(shown(found))}')
    try:
        return _asked(found, offer, config)
    except ValueError as error:
        raise Refused(422, one_line(error)) from error


def _asked(found: dict[str, Any], offer: Offer, config: ServeConfig) -> Asked:
    for key in found:
        if key not in KEYS:
            raise ValueError(f"there is no key {shown(key)}; the keys are {', '.join(KEYS)}")
    if ("text" in found) == ("texts" in found):
        raise ValueError("give either text, one text or a pair of them, or texts, a list")
    one = "text" in found
    texts = [_text("text", found["text"], offer, config)] if one else _texts(found["texts"], offer, config)
    point, explain = found.get("point"), found.get("explain", False)
    if point is not None and point not in offer.points:
        raise ValueError(
            f"point={shown(point)}: this model has no such operating point; it has {listed(list(offer.points))}"
        )
    if not isinstance(explain, bool):
        raise ValueError(f"explain={shown(explain)} must be true or false")
    return Asked(texts, point, explain)


def _texts(given: Any, offer: Offer, config: ServeConfig) -> list[Text]:
    if not isinstance(given, list) or not given:
        raise ValueError(f"texts={shown(given)} must be a list of texts, or of pairs")
    if len(given) > config.max_texts:
        raise ValueError(f"texts has {len(given):,} texts; this server takes at most {config.max_texts:,} in a request")
    return [_text(f"texts[{number}]", text, offer, config) for number, text in enumerate(given)]


def _text(key: str, given: Any, offer: Offer, config: ServeConfig) -> Text:
    parts = given if isinstance(given, list) else [given]
    columns = offer.columns
    if not 1 <= len(parts) <= 2 or (columns is not None and len(parts) != len(columns)) or given == parts[:1]:
        wanted = "a text, or a pair [a, b]" if columns is None else "a text" if len(columns) == 1 else "a pair [a, b]"
        raise ValueError(f"{key}={shown(given)} must be {wanted}")
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(f"{key} holds {shown(part)}, which is not a text")
        if not offer.allow_empty and not part.strip():
            raise ValueError(f"{key} is empty")
        if half := NOT_UTF8.search(part):
            raise ValueError(f"{key} holds {shown(half.group())}, half of a surrogate pair: no UTF-8")
    length = sum(map(len, parts))
    if length > config.max_characters:
        raise ValueError(f"{key} has {length:,} characters; this server takes at most {config.max_characters:,}")
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])
