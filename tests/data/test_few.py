from __future__ import annotations

import numpy as np
import pytest

from sharcs_pl.data.few import few_rows_note
from sharcs_pl.data.spec import Examples, TaskSpec

NAMES = "abcdefghijklmnopqrstuvwxyz"


def split(*counts: int) -> Examples:
    """So many samples of each class."""
    return Examples([("x",)] * sum(counts), np.repeat(np.arange(len(counts)), counts))


def scores(*values: float) -> Examples:
    return Examples([("x",)] * len(values), np.array(values, np.float32))


def note(train: Examples, dev: Examples, classes: int = 0, share: float | None = None) -> str | None:
    labels = tuple(NAMES[:classes]) if classes else None
    metrics = ("accuracy",) if classes else ("pearson",)
    return few_rows_note(train, dev, TaskSpec("own", ("text",), "y", labels, metrics, label_range=(0.0, 1.0)), share)


@pytest.mark.parametrize(
    ("train", "dev", "share", "expected"),
    [
        ((1, 1), (1, 0), 0.3, "2 rows to train on and 1 row to evaluate on; dev has none of class b (1 row), which"),
        ((54, 27, 1, 1), (6, 3, 1, 0), 0.1, "dev has none of class d (1 row), which cannot be evaluated; one to train"),
        ((9, 1), (4, 1), None, "one to train on and one to evaluate on of class b"),
        ((9, 9), (1, 1), 0.01, "task.dev=0.01 is 0 rows, but every class gives one: 2"),
        ((9, 9, 0), (4, 4, 2), None, "train has none of class c, which cannot be learned"),
        ((9, 5, 3), (4, 0, 0), None, "dev has none of 2 classes: b (5 rows), c (3 rows), which cannot be evaluated"),
    ],
)
def test_what_is_too_few_is_named_in_one_line(train: tuple, dev: tuple, share: float | None, expected: str) -> None:
    found = str(note(split(*train), split(*dev), len(train), share))
    assert found.startswith(f"few rows: {expected}")
    assert found.count("few rows") == 1
    assert "\n" not in found


def test_many_classes_stay_a_line() -> None:
    found = str(note(split(*[1] * 26), split(*[1] * 26), 26, 0.01))
    assert "of 26 classes: a, b, c" in found
    assert found.endswith("but every class gives one: 26")
    assert len(found) < 300


@pytest.mark.parametrize(
    ("train", "dev", "share"),
    [((18, 18), (2, 2), 0.1), ((80, 9), (20, 1), 0.2), ((2, 2, 8), (2, 2, 2), None), ((27, 27), (3, 3), 0.01)],
)
def test_enough_rows_are_no_news(train: tuple, dev: tuple, share: float | None) -> None:
    assert note(split(*train), split(*dev), len(train), share) is None


def test_scores_need_rows_that_differ_to_correlate() -> None:
    many = scores(*np.linspace(0, 1, 20))
    assert note(many, scores(0.1, 0.2, 0.2)) is None
    assert note(many, scores(0.1, 0.2)) == "few rows: 2 rows of dev always correlate with 1, 0 or -1"
    assert note(many, scores(0.1)) == "few rows: 1 row of dev has no correlation"
    assert note(many, scores(0.5, 0.5, 0.5, 0.5)) == "few rows: 4 rows of dev, all of one score, have no correlation"
    assert str(note(scores(0.1, 0.2), scores(0.3))).startswith(
        "few rows: 2 rows to train on and 1 row to evaluate on; 1"
    )
