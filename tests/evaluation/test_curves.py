from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharcs_pl.evaluation.curves import BUDGETS, Curves, area_under, write_curve
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.conftest import tiny_bert, tiny_model
from tests.models.surgery import begins


def predictions(rungs: int = 2, num_labels: int = 2) -> Predictions:
    torch.manual_seed(2)
    logits, router = torch.randn(12, rungs, num_labels), torch.randn(12, rungs)
    labels = torch.rand(12) if num_labels == 1 else torch.randint(0, 2, (12,))
    lengths, unknown = torch.randint(3, 10, (12,)), torch.full((12,), -1)
    return Predictions(torch.arange(12), logits, router, router.argmax(-1), labels, lengths, unknown)


def test_the_router_s_curve_goes_from_all_narrow_to_all_full() -> None:
    found = Curves("sharcs", "accuracy", tiny_model(), predictions(), 1).rows()
    own = [row for row in found if row.method == "sharcs" and row.point != "trained"]
    widths = [row for row in found if row.method == "sharcs/width"]
    assert [row.point for row in widths] == ["width 0.25", "width 1"]
    assert (own[0].value, own[0].macs) == (pytest.approx(widths[0].value), pytest.approx(widths[0].macs, rel=0.01))
    assert own[-1].macs == pytest.approx(widths[1].macs, rel=0.2)
    assert len(own) == BUDGETS
    for name in ("random", "cascade", "router+cascade"):
        assert len([row for row in found if row.method == f"sharcs/{name}"]) == BUDGETS
    (oracle,) = [row for row in found if row.method == "sharcs/oracle"]
    assert oracle.value >= max(row.value for row in own)
    (agreement,) = [row for row in found if row.method == "sharcs/agreement"]
    assert agreement.value == pytest.approx(widths[1].value)  # it answers as the full width does, at less cost
    assert agreement.macs < widths[1].macs


def test_low_thresholds_reach_the_narrowest_of_several_widths() -> None:
    found = predictions(rungs=3)
    found.router_logits[:, 1] += 9  # the middle one is always likelier, so only a low threshold chooses the narrowest
    points = tiny_model(widths=(0.25, 0.5, 1.0)).sweep(found.logits, found.router_logits)["router"]
    assert any((point.rungs == 0).all() for point in points)
    assert any((point.rungs == 2).all() for point in points)
    assert any(point.rungs.unique().tolist() == [0, 1, 2] for point in points)  # each width has its own threshold


def test_a_threshold_is_a_router_threshold() -> None:
    model, found = tiny_model(), predictions()
    for point in model.sweep(found.logits, found.router_logits)["router"][:-1]:
        model.config.router_threshold = point.threshold
        assert (begins(model, found.router_logits) != point.rungs).sum() <= 1  # the threshold is a sample's own score
    rows = [row for row in Curves("sharcs", "accuracy", model, found, 1).rows() if row.method == "sharcs"]
    assert any(row.threshold for row in rows)


def test_a_cascade_pays_for_every_width_it_tries() -> None:
    model, found = tiny_model(), predictions()
    lengths, cost = found.lengths.numpy(), model.cost
    trunk = cost.trunk_macs(lengths) - cost.router_macs()
    both = trunk + cost.tail_macs(lengths, 0) + cost.tail_macs(lengths, 1)
    points = model.sweep(found.logits, found.router_logits)["cascade"]
    confidence = found.logits[:, 0].softmax(-1).amax(-1)
    for point in points:
        assert point.threshold is not None
        wide = (confidence < point.threshold).numpy()
        spent = np.where(wide, both, trunk + cost.tail_macs(lengths, 0))
        decided = found.decided(point.decision)
        assert decided.spent_macs(cost).tolist() == spent.tolist()
        if point.rule is not None and not point.rule.average:
            assert torch.equal(decided.routed_logits(), found.at(torch.from_numpy(wide).long()))


def test_the_router_and_the_widths_before_its_choice_are_not_paid_twice() -> None:
    model, found = tiny_model(widths=(0.25, 0.5, 1.0)), predictions(rungs=3)
    lengths, cost = found.lengths.numpy(), model.cost
    tails = [cost.tail_macs(lengths, rung) for rung in range(3)]
    spent = cost.cascade_macs(lengths, np.ones(12, int), routed=True)
    assert spent[:, 1].tolist() == (cost.trunk_macs(lengths) + tails[1]).tolist()
    assert spent[:, 2].tolist() == (cost.trunk_macs(lengths) + tails[1] + tails[2]).tolist()


def test_without_a_router_the_widths_are_the_curve() -> None:
    model = SharcsForSequenceClassification.from_encoder(
        tiny_bert(), widths=[0.25, 1], split_layer=1, router_hidden_size=0
    )
    found = Curves("slimmable", "accuracy", model, predictions(), 1).rows()
    assert [row.point for row in found if row.method == "slimmable"] == ["width 0.25", "width 1"]
    assert {row.method for row in found} == {
        "slimmable",
        *(f"slimmable/{name}" for name in ("random", "cascade", "oracle", "agreement")),
    }


def test_exits_are_swept_by_their_own_rule() -> None:
    model = ExitsForSequenceClassification.from_encoder(tiny_bert(), rule="entropy")
    found = Curves("branchynet", "accuracy", model, predictions(3), 1).rows()
    own = [row for row in found if row.method == "branchynet" and row.threshold is not None]
    assert own[0].macs == pytest.approx(next(row.macs for row in found if row.point == "layer_1"), rel=0.3)
    assert own[-1].macs == pytest.approx(next(row.macs for row in found if row.point == "layer_3"), rel=0.2)
    assert "branchynet/cascade" not in {row.method for row in found}


def test_a_regression_of_two_widths_has_neither_oracle_nor_cascade() -> None:
    found = Curves("sharcs", "pearson", tiny_model(num_labels=1), predictions(num_labels=1), 1).rows()
    assert {row.method for row in found} == {"sharcs", "sharcs/width", "sharcs/random"}


def test_the_file(tmp_path: Path) -> None:
    rows = Curves("sharcs", "accuracy", tiny_model(), predictions(), 1).rows()
    write_curve(tmp_path / "curve.csv", [rows[0], replace(rows[1], threshold=0.5)])
    with (tmp_path / "curve.csv").open() as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["method", "point", "threshold", "value", "macs", "macs_fraction"]
    assert (read[0]["threshold"], read[1]["threshold"]) == ("", "0.5")
    assert float(read[0]["value"]) == rows[0].value


def test_the_area_counts_the_best_that_each_budget_buys() -> None:
    model, found = tiny_model(), predictions()
    value = {}
    for rung in (0, 1):
        shares = found.on(torch.full_like(found.rungs, rung))
        value[rung] = (
            shares.macs_fraction(model.cost),
            compute_metric("accuracy", shares.routed_logits(), found.labels),
        )
    area = area_under(model, found, "accuracy")
    best = max(compute_metric("accuracy", found.decided(point.decision).routed_logits(), found.labels)
               for points in model.sweep(found.logits, found.router_logits).values() for point in points)  # fmt: skip
    assert value[0][1] <= area <= best
    low, high = value[0][0], value[1][0]
    slow = []
    for budget in np.linspace(low, high, BUDGETS):
        had = [v for cost, v in value.values() if cost <= budget + 1e-9]
        for points in model.sweep(found.logits, found.router_logits).values():
            for point in points:
                each = found.decided(point.decision)
                if each.macs_fraction(model.cost) <= budget + 1e-9:
                    had.append(compute_metric("accuracy", each.routed_logits(), found.labels))
        slow.append(max(had))
    assert area == pytest.approx(np.mean(slow))


def test_of_two_models_of_equal_full_width_the_area_prefers_the_better_narrow_one() -> None:
    found = predictions()
    right = torch.nn.functional.one_hot(found.labels, 2).float() * 4 - 2
    better = replace(found, logits=torch.stack([right, found.logits[:, 1]], 1))
    worse = replace(found, logits=torch.stack([-right, found.logits[:, 1]], 1))
    assert area_under(tiny_model(), better, "accuracy") > area_under(tiny_model(), worse, "accuracy")


def test_the_area_of_one_width_is_its_value_and_that_of_exits_is_defined() -> None:
    found = predictions(rungs=1)
    value = compute_metric("accuracy", found.logits[:, 0], found.labels)
    assert area_under(tiny_model(widths=(1.0,)), found, "accuracy") == pytest.approx(value)
    exits = ExitsForSequenceClassification.from_encoder(tiny_bert(), rule="confidence")
    assert 0 <= area_under(exits, predictions(rungs=3), "accuracy") <= 1
