from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.server.bodies import KEYS, SCHEMA, Asked, Refused, read_body
from sharcs_pl.server.offer import Offer

CONFIG = ServeConfig(run="r", max_texts=3, max_characters=10)
PAIR = {"columns": ("question", "answer")}


def body(**keys: Any) -> bytes:
    return json.dumps(keys).encode()


@pytest.mark.parametrize(
    ("given", "changes", "texts"),
    [
        ({"text": "ten chars."}, {}, ["ten chars."]),
        ({"texts": ["a", "b", "c"]}, {}, ["a", "b", "c"]),
        ({"text": ["a", "b"]}, PAIR, [("a", "b")]),
        ({"texts": [["a", "b"], ["c", "d"]]}, PAIR, [("a", "b"), ("c", "d")]),
        ({"texts": ["a", ["b", "c"]]}, {"columns": None}, ["a", ("b", "c")]),
        ({"text": ["", ""]}, {**PAIR, "allow_empty": True}, [("", "")]),
    ],
)
def test_texts_and_pairs(offer: Callable[..., Offer], given: Any, changes: Any, texts: Any) -> None:
    assert read_body(body(**given), offer(**changes), CONFIG) == Asked(texts, None, False)


def test_point_and_explain(offer: Callable[..., Offer]) -> None:
    asked = read_body(body(text="a", point="cheap", explain=True), offer(), CONFIG)
    assert (asked.point, asked.explain) == ("cheap", True)


@pytest.mark.parametrize(
    "given", [b"", b"{", b"\xff", b"[" * 100_000, b"[1]", b'"text"', b"null", b'{"text": "a"}{'], ids=range(8)
)
def test_what_is_no_json_object_is_refused(offer: Callable[..., Offer], given: bytes) -> None:
    with pytest.raises(Refused, match="the body") as refused:
        read_body(given, offer(), CONFIG)
    assert refused.value.status == 400
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "changes", "piece"),
    [
        ({}, {}, "give either text"),
        ({"text": "a", "texts": ["a"]}, {}, "give either text"),
        ({"text": "a", "txt\n": 1}, {}, "no key 'txt\\n'"),
        ({"text": 1}, {}, "text holds 1"),
        ({"text": None}, {}, "text holds None"),
        ({"text": {"a": 1}}, {}, "text holds {'a': 1}"),
        ({"text": " \t"}, {}, "text is empty"),
        ({"text": "eleven char"}, {}, "text has 11 characters"),
        ({"text": ["a", "b"]}, {}, "must be a text"),
        ({"text": "a"}, PAIR, "must be a pair [a, b]"),
        ({"text": ["a"]}, {}, "must be a text"),
        ({"text": ["a"]}, {"columns": None}, "must be a text, or a pair"),
        ({"text": ["a", "b", "c"]}, {"columns": None}, "must be a text, or a pair"),
        ({"text": ["a", 2]}, PAIR, "text holds 2"),
        ({"text": ["six...", "five."]}, PAIR, "text has 11 characters"),
        ({"text": ["a", ""]}, PAIR, "text is empty"),
        ({"text": "a\ud800"}, {}, "half of a surrogate pair"),
        ({"texts": "a"}, {}, "texts='a' must be a list"),
        ({"texts": []}, {}, "texts=[] must be a list"),
        ({"texts": ["a"] * 4}, {}, "texts has 4 texts"),
        ({"texts": ["a", ""]}, {}, "texts[1] is empty"),
        ({"text": "a", "point": "nope"}, {}, "point='nope': this model has no such operating point; it has trained"),
        ({"text": "a", "point": ["cheap"]}, {}, "point=['cheap']"),
        ({"text": "a", "explain": 1}, {}, "explain=1 must be true or false"),
    ],
)
def test_a_value_at_fault_is_named(offer: Callable[..., Offer], given: Any, changes: Any, piece: str) -> None:
    with pytest.raises(Refused) as refused:
        read_body(body(**given), offer(**changes), CONFIG)
    assert refused.value.status == 422
    assert piece in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_schema_has_every_key() -> None:
    assert tuple(SCHEMA["properties"]) == KEYS
