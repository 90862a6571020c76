from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import evaluate
from tests.evaluation.made import COST, predictions


def test_every_figure_by_hand() -> None:
    report = evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1)
    macs, dense = COST.rung_macs(np.array([4, 5, 6, 7, 8])), COST.dense_macs(np.array([4, 5, 6, 7, 8])).mean()
    assert report.routed.value == pytest.approx(3 / 5)  # 0 and 1 narrow, 4 at the top
    assert report.routed.macs == pytest.approx((macs[:3, 0].sum() + macs[3:, 1].sum()) / 5)
    assert report.routed.macs_fraction == pytest.approx(report.routed.macs / dense)
    assert predictions().macs_fraction(COST) == pytest.approx(report.routed.macs_fraction)
    assert [rung.value for rung in report.rungs] == pytest.approx([3 / 5, 3 / 5])
    assert [rung.share for rung in report.rungs] == pytest.approx([3 / 5, 2 / 5])
    assert [rung.width for rung in report.rungs] == [0.25, 1.0]
    assert report.oracle is not None
    assert report.oracle.value == pytest.approx(4 / 5)
    oracle_macs = macs[0, 0] + macs[1, 0] + macs[2, 1] + macs[3, 0] + macs[4, 0]  # 3 is wrong anyway: the cheapest
    assert report.oracle.macs == pytest.approx(oracle_macs / 5)
    assert report.regret == pytest.approx(1 / 5)
    assert report.agreement is not None
    assert report.agreement.value == pytest.approx(3 / 5), "what the full width answers"
    agreed = macs[0, 0] + macs[1, 1] + macs[2, 1] + macs[3, 0] + macs[4, 0]  # 3 is wrong at both alike
    assert report.agreement.macs == pytest.approx(agreed / 5)
    assert report.router_auc == pytest.approx(5 / 6)


def test_random_routing_keeps_the_shares() -> None:
    """Expected accuracy at 3 narrow of 5: both right on 0 and 4, one of two on 1 (narrow) and 2 (top), never on 3."""
    report = evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1)
    assert report.random["value"] == pytest.approx((2 + 3 / 5 + 2 / 5) / 5, abs=0.03)
    again = evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1)
    assert again.random == report.random


def test_random_routing_costs_what_its_deals_cost_on_average() -> None:
    """The router sends the short texts narrow: dealt to any text, the same shares cost less than it does."""
    found = replace(predictions(), lengths=torch.tensor([4, 5, 6, 70, 80]))
    macs, dense = COST.rung_macs(found.lengths.numpy()), COST.dense_macs(found.lengths.numpy()).mean()
    deals = set(itertools.permutations(found.rungs.tolist()))
    every = np.mean([macs[np.arange(5), list(deal)].mean() for deal in deals])
    report = evaluate({"validation": found}, GLUE["sst2"], COST, seed=1)
    assert report.random_point.macs == pytest.approx(every)
    assert report.random_point.macs_fraction == pytest.approx(every / dense)
    assert report.routed.macs > 1.3 * every
    assert report.to_json()["random"] == {
        **report.random, "macs": report.random_point.macs, "macs_fraction": report.random_point.macs_fraction,
    }  # fmt: skip


def test_random_routing_costs_what_was_measured_where_lengths_do_not_tell() -> None:
    macs = torch.tensor([[10, 20], [10, 20], [10, 20], [10, 20], [10, 100]])
    report = evaluate({"validation": replace(predictions(), macs=macs)}, GLUE["sst2"], COST, seed=1)
    assert report.random_point.macs == pytest.approx(0.6 * 10 + 0.4 * 36)


def test_regression_has_no_oracle() -> None:
    found = predictions()
    values = replace(found, logits=torch.rand(5, 2, 1), labels=torch.rand(5))
    report = evaluate({"validation": values}, GLUE["stsb"], COST, seed=1)
    assert report.oracle is None
    assert report.regret is None
    assert "agreement" not in report.to_json()
    plain = report.to_json()
    assert plain["oracle"] == {"value": None, "macs": None, "macs_fraction": None}
    assert set(plain["all_metrics"]["validation"]["routed"]) == {"pearson", "spearman"}


def test_without_difficulty_there_is_no_auc() -> None:
    found = replace(predictions(), difficulty=torch.full((5,), -1))
    assert evaluate({"validation": found}, GLUE["sst2"], COST, seed=1).router_auc is None


def test_gather_puts_batches_back_in_the_order_of_uids() -> None:
    found = predictions()
    halves = [found.select(rows) for rows in (torch.tensor([4, 1]), torch.tensor([0, 3, 2]))]
    gathered = Predictions.gather(halves)
    assert gathered.uids.tolist() == list(range(5))
    torch.testing.assert_close(gathered.logits, found.logits)


def test_every_split_is_in_all_metrics() -> None:
    both = {name: predictions() for name in GLUE["mnli"].validation}
    report = evaluate(both, GLUE["mnli"], COST, seed=1)
    assert list(report.all_metrics) == ["validation_matched", "validation_mismatched"]
