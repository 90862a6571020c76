from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.core.finite import not_finite, without_nan, write_json

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": 1, "b": [0.5, {"c": None}], "d": "NaN", "e": True}, None),
        ({"rungs": [{"value": 0.5}, {"value": NAN}]}, "rungs.1.value"),
        ({"a": (1.0, -INF)}, "a.1"),
        (INF, "the value"),
        ([NAN], "0"),
    ],
)
def test_the_first_number_that_is_none_is_named(value: Any, place: str | None, tmp_path: Path) -> None:
    assert not_finite(value) == place
    path = tmp_path / "a.json"
    path.write_text("before")
    if place is None:
        write_json(path, value)
        assert json.loads(path.read_text()) == value
        return
    with pytest.raises(ValueError, match=rf"a.json: {place} is not a finite number"):
        write_json(path, value)
    assert path.read_text() == "before"


def test_null_stands_for_what_json_cannot_hold() -> None:
    given = {"a": NAN, "b": [INF, 1.5, "x", [-INF]], "c": (1, None), "d": True}
    assert without_nan(given) == {"a": None, "b": [None, 1.5, "x", [None]], "c": [1, None], "d": True}
