from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharcs_pl.evaluation.curves import Curves, write_curve
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.conftest import tiny_bert, tiny_model


def predictions(rungs: int = 2, num_labels: int = 2) -> Predictions:
    torch.manual_seed(2)
    logits, router = torch.randn(12, rungs, num_labels), torch.randn(12, rungs)
    labels = torch.rand(12) if num_labels == 1 else torch.randint(0, 2, (12,))
    lengths, unknown = torch.randint(3, 10, (12,)), torch.full((12,), -1)
    return Predictions(torch.arange(12), logits, router, router.argmax(-1), labels, lengths, unknown)


def test_the_router_s_curve_goes_from_all_narrow_to_all_full() -> None:
    found = Curves("sharcs", "accuracy", tiny_model(), predictions()).rows(1)
    own = [row for row in found if row.method == "sharcs" and row.point != "trained"]
    widths = [row for row in found if row.method == "sharcs/width"]
    assert [row.point for row in widths] == ["width 0.25", "width 1"]
    assert (own[0].value, own[0].macs) == (widths[0].value, widths[0].macs)
    assert (own[-1].value, own[-1].macs, own[-1].threshold) == (widths[1].value, widths[1].macs, 1.0)
    assert [row.macs for row in own] == sorted(row.macs for row in own)
    assert len(own) == 13  # one for each of the 12 samples, and one that nobody reaches
    random = [row for row in found if row.method == "sharcs/random"]
    assert len(random) == len(own)
    assert (random[0].value, random[-1].macs) == (widths[0].value, pytest.approx(widths[1].macs))
    (oracle,) = [row for row in found if row.method == "sharcs/oracle"]
    assert oracle.value >= max(row.value for row in own)


def test_low_thresholds_reach_the_narrowest_of_several_widths() -> None:
    model = tiny_model(widths=(0.25, 0.5, 1.0))
    found = predictions(rungs=3)
    found.router_logits[:, 1] += 9  # the middle one is always likelier, so only a low threshold chooses the narrowest
    rows = Curves("sharcs", "accuracy", model, found).rows(1)
    own = [row for row in rows if row.method == "sharcs" and row.point != "trained"]
    each = {row.point: row.macs for row in rows if row.method == "sharcs/width"}
    assert own[0].macs == each["width 0.25"]
    assert sum(each["width 0.25"] < row.macs < each["width 0.5"] for row in own) == 11  # 12 samples move up one by one
    assert own[-1].macs == each["width 1"]


def test_a_threshold_is_a_router_threshold() -> None:
    model, found = tiny_model(), predictions()
    rows = [row for row in Curves("sharcs", "accuracy", model, found).rows(1) if row.threshold]
    for row in rows[1:-1]:
        model.config.router_threshold = row.threshold
        if row.method == "sharcs":
            value = (found.at(model.route(found.router_logits)).argmax(-1) == found.labels).float().mean()
            assert value.item() == pytest.approx(row.value, abs=1 / 12 + 1e-6)  # the threshold is a sample's own score


def test_a_cascade_pays_for_every_width_it_tries() -> None:
    model, found = tiny_model(), predictions()
    lengths = found.lengths.numpy()
    rows = [row for row in Curves("sharcs", "accuracy", model, found).rows(1) if row.method == "sharcs/cascade"]
    cost = model.cost
    trunk = cost.trunk_macs(lengths) - cost.router_macs()
    both = trunk + cost.tail_macs(lengths, 0) + cost.tail_macs(lengths, 1)
    assert cost.tried_macs(lengths)[:, 1].tolist() == both.tolist()
    measured = replace(found, macs=torch.from_numpy(cost.rung_macs(lengths)))
    assert not [x for x in Curves("sharcs", "accuracy", model, measured).controls() if x.method == "sharcs/cascade"]
    confidence = found.logits[:, 0].softmax(-1).amax(-1)
    for row in rows:
        assert row.threshold is not None
        wide = (confidence < row.threshold).numpy()
        spent = np.where(wide, both, trunk + cost.tail_macs(lengths, 0))
        assert row.macs == pytest.approx(spent.mean())
        chosen = torch.where(torch.from_numpy(wide), 1, 0)
        assert row.value == pytest.approx((found.at(chosen).argmax(-1) == found.labels).float().mean().item())


def test_without_a_router_the_widths_are_the_curve() -> None:
    model = SharcsForSequenceClassification.from_encoder(
        tiny_bert(), widths=[0.25, 1], split_layer=1, router_hidden_size=0
    )
    found = Curves("slimmable", "accuracy", model, predictions()).rows(1)
    assert [row.point for row in found if row.method == "slimmable"] == ["width 0.25", "width 1"]
    assert {row.method for row in found} == {"slimmable", "slimmable/oracle", "slimmable/cascade"}


def test_exits_are_swept_by_their_own_rule() -> None:
    model = ExitsForSequenceClassification.from_encoder(tiny_bert(), rule="entropy")
    found = Curves("branchynet", "accuracy", model, predictions(3)).rows(1)
    own = [row for row in found if row.method == "branchynet" and row.threshold is not None]
    assert [row.macs for row in own] == sorted((row.macs for row in own), reverse=True)
    assert own[-1].macs == next(row.macs for row in found if row.point == "layer_1")
    assert own[0].macs == next(row.macs for row in found if row.point == "layer_3")
    assert "branchynet/cascade" not in {row.method for row in found}


def test_a_regression_has_neither_oracle_nor_cascade() -> None:
    found = Curves("sharcs", "pearson", tiny_model(num_labels=1), predictions(num_labels=1)).rows(1)
    assert {row.method for row in found} == {"sharcs", "sharcs/width", "sharcs/random"}


def test_the_file(tmp_path: Path) -> None:
    rows = Curves("sharcs", "accuracy", tiny_model(), predictions()).rows(1)
    write_curve(tmp_path / "curve.csv", [rows[0], replace(rows[1], threshold=0.5)])
    with (tmp_path / "curve.csv").open() as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["method", "point", "threshold", "value", "macs", "macs_fraction"]
    assert (read[0]["threshold"], read[1]["threshold"]) == ("", "0.5")
    assert float(read[0]["value"]) == rows[0].value
