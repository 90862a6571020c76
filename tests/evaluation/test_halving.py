from __future__ import annotations

import numpy as np
import pytest
import torch

from sharcs_pl.evaluation.curves import RANDOM, Curves
from sharcs_pl.evaluation.halving import BAND, Costs, HalvedRule, Halves, Setting, Table
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.decision import Decision
from sharcs_pl.models.sweeps import SweptPoint
from tests.conftest import tiny_model


def made(size: int, seed: int, informed: bool) -> Predictions:
    """Two widths, right 75 % and 85 % of the time; a router of noise, or one that knows where the narrow is wrong."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (size,), generator=generator)
    right = torch.rand(size, 2, generator=generator) < torch.tensor([0.75, 0.85])
    answers = torch.where(right, labels[:, None], 1 - labels[:, None])
    logits = torch.nn.functional.one_hot(answers, 2).float() * (1 + torch.rand(size, 2, 1, generator=generator))
    scores = torch.rand(size, 2, generator=generator)
    scores[:, 0] += right[:, 0] * 2.0 * informed
    lengths, unknown = torch.full((size,), 8), torch.full((size,), -1)
    return Predictions(torch.arange(size), logits, scores, scores.argmax(-1), labels, lengths, unknown)


def curves(size: int, seed: int, informed: bool = False) -> Curves:
    return Curves("sharcs", "accuracy", tiny_model(), made(size, seed, informed), seed)


def lead(size: int, seed: int, informed: bool = False) -> float:
    """The router's value less that of random routing, mean over a few budgets."""
    found = curves(size, seed, informed)
    return float(np.mean([found.read("router", x)[0] - found.read(RANDOM, x)[0] for x in (0.5, 0.6, 0.7)]))


def test_halves_are_complementary_and_a_drawn_sample_is_in_one_of_them() -> None:
    halves = Halves.of(9, 20, seed=1)
    assert (halves.first.sum(1) == 4).all()
    assert (halves.whole == 1).all()
    drawn = Halves.of(9, 20, seed=1, resampled=True)
    assert (drawn.first.sum(1) == 4).all()
    assert (drawn.second.sum(1) == 5).all()
    assert drawn.whole.max() > 1
    assert not (drawn.first * drawn.second).any()


def test_a_router_of_noise_does_not_lead_random_routing() -> None:
    leads = [lead(80, seed) for seed in range(25)]
    assert abs(np.mean(leads)) < 3 * np.std(leads) / len(leads) ** 0.5 + 1e-3
    assert lead(120, 1, informed=True) > 0.03


def test_the_chosen_setting_is_the_best_of_those_that_spend_the_budget() -> None:
    values = np.array([[0.9, 0.9], [0.5, 0.8], [0.6, 0.7], [1.0, 1.0]])
    table = Table(values, np.array([[0.3] * 2, [0.48] * 2, [0.5] * 2, [0.6] * 2]))
    assert table.choose(0.5).tolist() == [2, 1]  # the cheap one does not compete, the dear one is not within
    assert 0.48 > 0.5 - BAND * 0.5 > 0.3
    assert table.choose(0.2).tolist() == [0, 0]  # none is within: the cheapest


def test_what_one_half_chooses_the_other_half_reads() -> None:
    size = 40
    labels = torch.zeros(size, dtype=torch.long)
    lucky = torch.arange(size) < size // 2  # setting 0 is right in the first half alone, setting 1 in the second
    logits = torch.zeros(size, 2, 2)
    logits[:, 0, 0], logits[:, 1, 0] = lucky * 2.0 - 1, ~lucky * 2.0 - 1
    rows = (torch.arange(size), logits, torch.zeros(size, 2), labels, labels, torch.full((size,), 8), -labels)
    found = Predictions(*rows)
    points = [SweptPoint(None, Decision.at(torch.full((size,), rung), logits)) for rung in (0, 1)]
    cost = tiny_model(widths=(1.0,)).cost

    class SameCost:
        dense_macs = staticmethod(cost.dense_macs)
        rung_macs = staticmethod(lambda lengths: np.repeat(cost.rung_macs(lengths), 2, axis=1))

    costs = Costs(found, SameCost())  # pyright: ignore[reportArgumentType]
    halves = Halves(lucky.int().numpy()[None], (~lucky).int().numpy()[None])
    settings = [Setting(point, found, "accuracy", costs) for point in points]
    assert HalvedRule(settings, halves).read(1.1).values.tolist() == [0.0]


def test_the_interval_contains_the_choosing_and_the_difference() -> None:
    points = curves(200, 3, informed=True).rules()
    assert {point.rule for point in points} == {"router", "cascade", "router+cascade", RANDOM}
    for point in points:
        assert point.low <= point.minus_full <= point.high
        assert point.macs_fraction == pytest.approx(point.budget, abs=0.06)
    by_rule = {(point.rule, point.budget): point.value for point in points}
    budget = points[0].budget
    assert by_rule["router", budget] > by_rule[RANDOM, budget]


def test_costs_computed_once_are_those_of_the_decisions() -> None:
    found = curves(60, 5, informed=True)
    found.predictions.lengths.copy_(torch.arange(60) % 7 + 3)
    costs = Costs(found.predictions, found.model.cost)
    for points in found.model.sweep(found.predictions.logits, found.predictions.router_logits).values():
        for point in points[::5]:
            spent = found.predictions.decided(point.decision).spent_macs(found.model.cost)
            assert costs.spent(point.decision).tolist() == spent.tolist()
