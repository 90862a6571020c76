"""The costs of decisions on samples, and the halves that they are divided into."""

from __future__ import annotations

import numpy as np
import pytest

from sharcs_pl.analysis.calibration.views import decided
from sharcs_pl.core.decision import DecisionRule
from tests.analysis.calibration.simulated import population


@pytest.mark.parametrize(
    "rule",
    [
        DecisionRule(),
        DecisionRule("cascade", stops=(0.8,)),
        DecisionRule("router+cascade", starts=(0.0,), stops=(0.7,), average=True),
    ],
    ids=lambda rule: rule.name,
)
def test_a_decision_costs_what_its_predictions_say(rule: DecisionRule) -> None:
    views = population().select(np.arange(500))
    found = decided(views, rule)
    assert 0 < (found.rungs == 0).sum() < 500
    assert views.fractions(found).mean() == pytest.approx(found.macs_fraction(views.cost))


def test_a_split_keeps_every_sample_once_and_in_order() -> None:
    views = population().select(np.arange(100))
    few, others = views.split(30, seed=3)
    uids = [part.predictions.uids.tolist() for part in (few, others)]
    assert len(uids[0]) == 30
    assert all(part == sorted(part) for part in uids)
    assert sorted(uids[0] + uids[1]) == list(range(100))
    assert views.split(30, seed=4)[0].predictions.uids.tolist() != uids[0]
