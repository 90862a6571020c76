from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharcs_pl.analysis.figures.samples import (
    Names,
    Sample,
    as_good_as_top,
    calibrate,
    extremes,
    narrow_probability,
    pick,
    right,
    shorten,
    wilson,
    write_samples,
)
from sharcs_pl.evaluation.predictions import Predictions
from tests.evaluation.made import predictions

CLASSES = Names(["0.25", "1"], ["bad", "good"])
SCORES = Names(["0.25", "1"], None, (1.0, 5.0))


def regression() -> Predictions:
    """Label 3 throughout; errors of rung 0: 0.39, 0.5, 1, 1; of the top rung: 0.2, 0.2, 0.9, 0.7."""
    narrow, top = torch.tensor([3.39, 2.5, 4.0, 2.0]), torch.tensor([3.2, 2.8, 3.9, 3.7])
    found = predictions()
    kept = {name: getattr(found, name)[:4] for name in ("uids", "router_logits", "rungs", "lengths", "difficulty")}
    return Predictions(logits=torch.stack([narrow, top], 1)[..., None], labels=torch.full((4,), 3.0), **kept)


def test_a_class_is_as_good_where_it_is_right_or_wrong_in_the_same_way() -> None:
    """All labels are 1; narrow answers 1 1 0 0 1, top 1 0 1 0 1."""
    assert as_good_as_top(predictions(), CLASSES).tolist() == [True, True, False, True, True]
    assert right(predictions(), CLASSES).tolist() == [
        [True, True], [True, False], [False, True], [False, False], [True, True],
    ]  # fmt: skip
    three = replace(predictions(), logits=torch.eye(3)[torch.tensor([[0, 2]] * 5)])
    assert not as_good_as_top(three, CLASSES).any()  # both wrong, each in its own way


def test_a_score_may_lose_a_twentieth_of_the_range_and_is_right_within_a_tenth() -> None:
    """A twentieth of 4 is 0.2, a tenth 0.4."""
    assert as_good_as_top(regression(), SCORES).tolist() == [True, False, True, False]
    assert right(regression(), SCORES).tolist() == [[True, True], [False, True], [False, False], [False, False]]


def test_the_probability_is_the_sigmoid_of_the_first_logit() -> None:
    found = replace(predictions(), router_logits=torch.tensor([[0.0, 9.0], [2.0, -9.0]]))
    assert narrow_probability(found) == pytest.approx([0.5, 1 / (1 + np.exp(-2))])


def test_bins_have_equal_counts_and_their_own_shares() -> None:
    probability = np.linspace(0.01, 1, 100)
    rng = np.random.default_rng(0)
    order = rng.permutation(100)
    outcome = probability > 0.45
    bins = calibrate(probability[order], outcome[order])
    assert bins.count.tolist() == [10] * 10
    assert bins.mean == pytest.approx([0.055 + 0.1 * i for i in range(10)])
    assert bins.share == pytest.approx([0, 0, 0, 0, 0.5, 1, 1, 1, 1, 1])
    assert (bins.low <= bins.share + 1e-12).all()
    assert (bins.share <= bins.high + 1e-12).all()


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_ties_share_a_bin_and_no_sample_is_lost(size: int) -> None:
    constant = calibrate(np.full(size, 0.3), np.arange(size) % 2 == 0)
    assert constant.count.tolist() == [size]
    assert constant.share == pytest.approx([(np.arange(size) % 2 == 0).mean()])
    spread = calibrate(np.linspace(0, 1, size), np.ones(size, dtype=bool))
    assert (spread.count.sum(), len(spread.count)) == (size, min(10, size))


def test_wilsons_interval_by_hand() -> None:
    """9 of 10: 0.596 to 0.982, as published; 0 of 10 keeps a width."""
    low, high = wilson(np.array([0.9, 0.0]), np.array([10, 10]))
    assert low == pytest.approx([0.5958, 0.0], abs=1e-4)
    assert high == pytest.approx([0.9821, 0.2775], abs=1e-4)


def test_extremes_are_disjoint_and_stable() -> None:
    assert extremes(np.array([0.1, 0.9, 0.5, 0.9, 0.2]), 2) == ([1, 3], [4, 0])
    assert extremes(np.array([0.1, 0.9, 0.5]), 2) == ([1, 2], [0])
    assert extremes(np.array([0.5]), 2) == ([0], [])


def test_a_picked_sample_is_found_by_its_uid() -> None:
    found = replace(predictions(), uids=torch.tensor([3, 5, 6, 8, 9]))
    texts = [(str(uid),) for uid in range(10)]
    first, second = pick(found, texts, CLASSES, [3, 1])
    assert (first.uid, first.texts, first.width, first.label) == (8, ("8",), "1", "good")
    assert (second.uid, second.right) == (5, {"0.25": True, "1": False})
    assert second.probability == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item())


def sample(*texts: str) -> Sample:
    return Sample(4, 0.25, "1", "good", {"0.25": False, "1": True}, texts)


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (("  a\tb\n c ",), "a b c"),
        ((" \n",), "(empty)"),
        (("abcdefghijklmnop",), "abcdefghi…"),
        (("abcdefgh", "stuvwxyz"), "ab… | stu…"),
        (("abcdefgh", "s"), "abcde… | s"),
        (("a", "stuvwxyz"), "a | stuvw…"),
    ],
)
def test_a_line_is_short_and_has_something_of_both_texts(texts: tuple[str, ...], line: str) -> None:
    assert sample(*texts).line(10) == line
    assert len(line) <= 10


def test_the_table_keeps_any_text(tmp_path: Path) -> None:
    texts = ("tab\there, \"quotes\", 'single'\nline\r\nend\rlone", "مرحبا 😀 汉字 $\\alpha$", "a lone\rreturn", '"', "")
    samples = [sample(text, text[::-1]) for text in texts]
    write_samples(tmp_path / "samples.tsv", samples)
    with (tmp_path / "samples.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["text"], row["text_pair"]) for row in rows] == [(text, text[::-1]) for text in texts]
    assert list(rows[0].values())[:6] == ["4", "0.25", "1", "good", "0", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["samples.tsv"]


def test_shortening_leaves_no_space_before_the_ellipsis() -> None:
    assert shorten("one two", 5) == "one…"
    assert shorten("one two", 7) == "one two"
