from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.evaluation import bootstrap as module
from sharcs_pl.evaluation.bootstrap import CLOSED_FORMS, paired_bootstrap, resampled_metric
from sharcs_pl.evaluation.compare import Comparison, compare, comparison_table
from sharcs_pl.evaluation.metrics import METRICS, compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from tests.evaluation.made import COST, SHAPE, predictions

UNROUTED = replace(COST, ladder=WidthLadder.parse([1]), has_router=False)
CLASSES = {"accuracy": 3, "f1": 2, "macro_f1": 3, "matthews": 3, "pearson": 1, "spearman": 1}
SEVERAL = ("micro_f1", "exact_match", "hamming")  # of several labels per text


def data(metric: str, size: int = 60, classes: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than not, and labels; scores in steps of a half, so that some are equal."""
    generator = torch.Generator().manual_seed(seed)
    if metric in SEVERAL:
        labels = torch.randint(0, 2, (size, 3), generator=generator)
        return labels - 0.5 + torch.randn(size, 3, generator=generator), labels
    classes = classes or CLASSES[metric]
    if classes == 1:
        labels = torch.randint(0, 11, (size,), generator=generator) / 2
        noise = torch.randint(-3, 4, (size,), generator=generator) / 2
        return (labels + noise)[:, None], labels
    labels = torch.randint(0, classes, (size,), generator=generator)
    noise = torch.randn(size, classes, generator=generator)
    return torch.nn.functional.one_hot(labels, classes) + noise, labels


def drawn(size: int, draws: int = 30) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(draws)])


def explicit(metric: str, logits: Tensor, labels: Tensor, counts: np.ndarray) -> list[float]:
    """The metric of each draw, its samples written out."""
    rows = [torch.arange(len(labels)).repeat_interleave(torch.from_numpy(row)) for row in counts]
    return [compute_metric(metric, logits[row], labels[row]) for row in rows]


def guessing(size: int, accuracy: float, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Logits of a two-class model that is right with a given probability."""
    right = torch.rand(size, generator=generator) < accuracy
    return torch.nn.functional.one_hot(torch.where(right, labels, 1 - labels), 2).float()


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("size", [60, 7])
def test_a_resampled_metric_is_that_of_the_samples_written_out(metric: str, size: int) -> None:
    """Seven samples leave classes out of many draws, and one sample drawn seven times leaves nothing to correlate."""
    logits, labels = data(metric, size)
    lone = np.zeros((2, size), dtype=int)
    lone[0, 0] = lone[1, -1] = size
    counts = np.concatenate([drawn(size), lone])
    expected = explicit(metric, logits, labels, counts)
    np.testing.assert_allclose(resampled_metric(metric, logits, labels)(counts), expected, atol=2e-6)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_what_does_not_vary_is_left_to_the_metric(metric: str) -> None:
    """One sample drawn 40 times: its sums of squares leave rounding errors behind, which must not be divided."""
    scores = torch.randn(40, generator=torch.Generator().manual_seed(3)) / 3
    lone = 40 * np.eye(40, dtype=int)
    values = resampled_metric(metric, scores[:, None], scores + 0.1)(lone)
    assert values.tolist() == explicit(metric, scores[:, None], scores + 0.1, lone)


@pytest.mark.parametrize("classes", [2, 5])
def test_matthews_and_macro_f1_of_any_number_of_classes(classes: int) -> None:
    logits, labels = data("matthews", 300, classes)
    counts = drawn(300)
    found = resampled_metric("matthews", logits, labels)(counts)
    np.testing.assert_allclose(found, explicit("matthews", logits, labels, counts), atol=2e-6)
    rows = [torch.arange(300).repeat_interleave(torch.from_numpy(row)) for row in counts]
    macro = [multiclass_f1_score(logits[r].argmax(-1), labels[r], classes, average="macro").item() for r in rows]
    np.testing.assert_allclose(CLOSED_FORMS["macro_f1"](logits, labels)(counts), macro, atol=2e-6)


@pytest.mark.parametrize("metric", sorted(CLOSED_FORMS))
def test_closed_forms_need_no_loop(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = data(metric, 200)

    def refuse(*_: Any) -> float:
        raise AssertionError("an ordinary draw was computed one at a time")

    monkeypatch.setattr(module, "compute_metric", refuse)
    assert np.isfinite(resampled_metric(metric, logits, labels)(drawn(200))).all()


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_a_metric_without_a_closed_form_gives_the_same(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (a, labels), (b, _) = data(metric, 50), data(metric, 50, seed=1)
    fast = paired_bootstrap(a, b, labels, metric, draws=100)
    monkeypatch.delitem(CLOSED_FORMS, metric)
    slow = paired_bootstrap(a, b, labels, metric, draws=100)
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high), abs=1e-5)
    assert slow.difference == pytest.approx(fast.difference, abs=1e-6)


def test_every_draw_has_as_many_samples_as_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(module._resamples(30, 500, seed=3)))
    assert whole.shape == (500, 30)
    assert (whole.sum(1) == 30).all()
    assert whole.mean(0) == pytest.approx(np.ones(30), abs=0.2)
    assert whole.var() == pytest.approx(1 - 1 / 30, rel=0.05)
    monkeypatch.setattr(module, "_CHUNK", 100)  # three draws at a time
    assert (np.concatenate(list(module._resamples(30, 500, seed=3))) == whole).all()


def test_the_interval_is_that_of_a_paired_difference() -> None:
    """Two models that are right on mostly the same samples: unpaired, the interval would be three times as wide."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 2, (1000,), generator=generator)
    a = guessing(1000, 0.7, labels, generator)
    changed = torch.rand(1000, 1, generator=generator) < 0.05
    b = torch.where(changed, a.flip(-1), a)
    found = paired_bootstrap(a, b, labels, "accuracy", draws=4000)
    gain = (a.argmax(-1) == labels).double() - (b.argmax(-1) == labels).double()
    assert found.difference == pytest.approx(gain.mean().item())
    width = 2 * 1.96 * gain.std().item() / 1000**0.5
    assert found.high - found.low == pytest.approx(width, rel=0.06)
    assert found.draws == 4000


def test_equal_models_are_told_apart_as_often_as_promised() -> None:
    """400 pairs of models that are both right with probability 0.8: 95 % of the intervals hold 0, 5 % have p < 0.05."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for seed in range(400):
        labels = torch.randint(0, 2, (250,), generator=generator)
        a, b = (guessing(250, 0.8, labels, generator) for _ in range(2))
        found.append(paired_bootstrap(a, b, labels, "accuracy", draws=400, seed=seed))
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    significant = np.mean([one.p_value < 0.05 for one in found])
    assert 0.92 <= covered <= 0.98
    assert 0.02 <= significant <= 0.08


def test_ten_points_on_a_thousand_samples_are_found() -> None:
    generator = torch.Generator().manual_seed(11)
    labels = torch.randint(0, 2, (1000,), generator=generator)
    a, b = guessing(1000, 0.9, labels, generator), guessing(1000, 0.8, labels, generator)
    found = paired_bootstrap(a, b, labels, "accuracy")
    assert found.low > 0.05
    assert found.high < 0.15
    assert found.p_value == pytest.approx(2 / 10_001)  # never 0
    back = paired_bootstrap(b, a, labels, "accuracy")
    assert (back.difference, back.low, back.high) == pytest.approx((-found.difference, -found.high, -found.low))
    assert back.p_value == found.p_value
    assert paired_bootstrap(a, b, labels, "accuracy") == found
    assert paired_bootstrap(a, b, labels, "accuracy", seed=2).low != found.low


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_a_run_does_not_differ_from_itself(metric: str) -> None:
    logits, labels = data(metric)
    found = paired_bootstrap(logits, logits.clone(), labels, metric, draws=200)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def pair() -> tuple[Predictions, Predictions]:
    """The predictions of the evaluation's tests as routed there, and all at the top."""
    return predictions(), replace(predictions(), rungs=torch.ones(5, dtype=torch.long))


def test_every_figure_by_hand() -> None:
    a, b = pair()
    found = compare(a, b, "accuracy", (COST, COST), draws=500)
    macs, dense = COST.rung_macs(a.lengths.numpy()), COST.dense_macs(a.lengths.numpy())
    assert found.samples == 5
    assert (found.a.value, found.b.value) == pytest.approx((0.6, 0.6))
    assert (found.a.narrow, found.a.top) == pytest.approx((0.6, 0.6))
    assert found.a.shares == pytest.approx({"0.25": 0.6, "1": 0.4})
    assert found.b.shares == {"0.25": 0, "1": 1}
    spent = macs[:3, 0].sum() + macs[3:, 1].sum()
    assert found.a.macs == pytest.approx(spent / 5)
    assert found.a.macs_fraction == pytest.approx(a.macs_fraction(COST))
    assert found.cost_difference.difference == pytest.approx((spent - macs[:, 1].sum()) / dense.sum())
    assert found.cost_difference.low < found.cost_difference.difference < found.cost_difference.high <= 0
    # Of the label 1, A predicts 1 1 0 0 1 and B 1 0 1 0 1.
    agreement = found.agreement
    assert agreement is not None
    assert agreement.share == pytest.approx(3 / 5)
    assert [agreement.both_right, agreement.only_a, agreement.only_b, agreement.both_wrong] == [2, 1, 1, 1]
    assert found.value_difference.difference == 0
    assert found.value_difference.draws == 500


def test_what_is_whose() -> None:
    """A's narrow rung is turned round: routed, A predicts 0 0 1 0 1 and B 1 0 1 0 1."""
    a, b = pair()
    worse = replace(a, logits=torch.stack([1 - a.logits[:, 0], a.logits[:, 1]], 1))
    found = compare(worse, b, "accuracy", (COST, COST), draws=10)
    assert (found.a.value, found.a.narrow, found.a.top) == pytest.approx((0.4, 0.4, 0.6))
    assert found.value_difference.difference == pytest.approx(-0.2)
    agreement = found.agreement
    assert agreement is not None
    assert [agreement.both_right, agreement.only_a, agreement.only_b, agreement.both_wrong] == [2, 0, 1, 2]


def test_runs_of_other_encoders_and_ladders_compare() -> None:
    """Each has its own tokens, and its own stock model to be a fraction of."""
    a, b = pair()
    wide = replace(UNROUTED, shape=replace(SHAPE, hidden_size=32, head_size=8))
    dense = replace(b, logits=b.logits[:, 1:], rungs=torch.zeros(5, dtype=torch.long), lengths=b.lengths + 3)
    found = compare(a, dense, "accuracy", (COST, wide), draws=50)
    assert found.b.macs_fraction == 1
    assert found.b.macs == wide.dense_macs(dense.lengths.numpy()).mean()
    assert found.cost_difference.difference == pytest.approx(found.a.macs_fraction - 1)
    same = compare(dense, replace(dense, lengths=a.lengths * 2), "accuracy", (wide, wide), draws=50).cost_difference
    assert (same.low, same.high) == (0, 0)  # both are dense in every draw, whatever it holds


def test_regression_has_no_agreement_and_json_is_plain() -> None:
    a, b = (replace(p, logits=torch.rand(5, 2, 1), labels=torch.arange(5) / 2) for p in pair())
    found = compare(a, b, "pearson", (COST, COST), draws=20)
    assert found.agreement is None
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["agreement"] is None
    assert set(plain["value_difference"]) == {"difference", "low", "high", "p_value", "draws"}
    assert plain["a"]["shares"] == pytest.approx({"0.25": 0.6, "1": 0.4})
    assert plain["value_difference"]["difference"] == pytest.approx(plain["a"]["value"] - plain["b"]["value"], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uids": torch.tensor([0, 1, 2, 3, 9])}, r"1 of 5 uids differ, the first in row 4: 4 and 9"),
        ({"labels": torch.tensor([1, 0, 1, 0, 1])}, r"2 of 5 labels differ, the first in row 1: 1 and 0"),
        ({"uids": torch.arange(4)}, "5 and 4 samples"),
        ({"logits": torch.zeros(5, 2, 3)}, "2 and 3 outputs per sample"),
    ],
)
def test_other_samples_are_refused(change: dict[str, Tensor], message: str) -> None:
    a, b = pair()
    with pytest.raises(ValueError, match=f"not of the same split and task: {message}"):
        compare(a, replace(b, **change), "accuracy", (COST, COST))


def test_hidden_labels_are_refused() -> None:
    a, b = (replace(p, labels=torch.full((5,), -1)) for p in pair())
    with pytest.raises(ValueError, match="labels are hidden"):
        compare(a, b, "accuracy", (COST, COST))


def shown(comparison: Comparison, names: tuple[str, str]) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(comparison_table(comparison, names))
    return captured.get()


def test_the_table_fits_a_terminal_and_says_each_figure() -> None:
    a, b = pair()
    found = compare(a, b, "accuracy", (COST, COST), draws=10_000)
    million = replace(found, samples=390_965, a=replace(found.a, macs=123_456_789_012.0, macs_fraction=10.0))
    text = shown(million, ("runs/" + "long_name_" * 12, "runs/[b]"))
    assert max(map(len, text.splitlines())) <= 80
    for line in ("accuracy and cost on 390,965 samples", "B  runs/[b]", "-0.6000, +0.6000", "123,456.8 M", "1000.0%"):
        assert line in text
    flat = text.replace("\n", "").replace(" ", "")
    assert "long_name_" * 12 in flat
    assert "right:both2,onlyA1,onlyB1,neither1" in flat
    assert f"p={found.value_difference.p_value:.2g}(accuracy)" in flat


def test_a_rung_that_only_one_run_has_is_blank_for_the_other() -> None:
    a, b = pair()
    wide = UNROUTED
    dense = replace(b, logits=b.logits[:, 1:], rungs=torch.zeros(5, dtype=torch.long))
    rows = {
        line.split("│")[1].strip(): line
        for line in shown(compare(a, dense, "accuracy", (COST, wide), 10), ("x", "y")).splitlines()
        if "│" in line
    }
    assert [cell.strip() for cell in rows["share at 0.25"].split("│")[2:4]] == ["60.0%", "-"]
    assert [cell.strip() for cell in rows["share at 1"].split("│")[2:4]] == ["40.0%", "100.0%"]
    assert [cell.strip() for cell in rows["all narrow"].split("│")[2:4]] == ["0.6000", "-"]


def test_shares_are_ordered_by_width() -> None:
    found = compare(*pair(), "accuracy", (COST, COST), draws=10)
    thirds = replace(found, a=replace(found.a, shares={"1/3": 0.5, "1": 0.5}))
    assert re.findall(r"share at (\S+)", shown(thirds, ("x", "y"))) == ["0.25", "1/3", "1"]
    exits = replace(found, a=replace(found.a, shares={"layer_10": 0.5, "layer_2": 0.5}))
    assert re.findall(r"share at (\S+)", shown(exits, ("x", "y"))) == ["0.25", "1", "layer_2", "layer_10"]
