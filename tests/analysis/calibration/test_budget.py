"""The budget dial: its search against brute force, its tests against scipy, its promise on known routers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from sharcs_pl.analysis.calibration.budget import Dial, Grid, Outcomes, scores_of
from sharcs_pl.analysis.calibration.risk import (
    fixed_sequence,
    p_value,
    pareto_path,
    samples_at,
    samples_without_error,
    upper_bound,
)
from sharcs_pl.analysis.calibration.risk_control import control
from sharcs_pl.core.cascade import choose_rungs
from sharcs_pl.core.decision import NEVER

WIDE = {2: (0.4, 1.0), 3: (0.3, 0.6, 1.0), 4: (0.2, 0.4, 0.6, 1.0)}


def outcomes(size: int, rungs: int, seed: int = 0, decimals: int = 1) -> Outcomes:
    """Random ones; one decimal makes ties."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, rungs)).round(decimals).astype(np.float32)
    costs = np.array(WIDE[rungs]) * rng.uniform(0.8, 1.2, (size, 1))
    return Outcomes(scores_of(logits), costs, (rng.random((size, rungs)) < 0.8).astype(float))


def accuracy(some: Outcomes) -> Callable[[np.ndarray], float]:
    return lambda rungs: float(some.quality[np.arange(len(some)), rungs].mean())


@given(st.integers(2, 4), st.integers(1, 30), st.integers(0, 10**6))
def test_totals_are_those_of_the_rule_that_the_model_routes_by(rungs: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, rungs)).round(1).astype(np.float32)
    some = Outcomes(scores_of(logits), rng.random((size, rungs)), rng.integers(0, 2, (size, rungs)).astype(float))
    grid = Grid.over(some.scores)
    totals = {name: grid.totals(getattr(some, name)) for name in ("costs", "errors")}
    for cell in rng.choice(math.prod(grid.shape), 10):
        thresholds = grid.thresholds(np.array([cell]))[0]
        chosen = choose_rungs(torch.from_numpy(logits), torch.from_numpy(thresholds)).numpy()
        np.testing.assert_array_equal(some.rungs(thresholds), chosen)
        for name, found in totals.items():
            assert found[cell] == pytest.approx(getattr(some, name)[np.arange(size), chosen].sum())


def test_a_score_on_the_threshold_reaches_it_as_in_the_model() -> None:
    logits = np.array([[0.5, 0.0, 1.0], [0.25, 0.5, 0.0], [0.25, 0.25, 9.0]], np.float32)
    some = Outcomes(scores_of(logits), np.ones((3, 3)), np.ones((3, 3)))
    chosen = choose_rungs(torch.from_numpy(logits), torch.tensor([0.5, 0.5]))
    assert some.rungs(np.array([0.5, 0.5])).tolist() == chosen.tolist() == [0, 1, 2]


def test_two_rungs_have_every_choice_and_more_have_as_many_as_a_table_holds() -> None:
    some = outcomes(300, 2, decimals=6)
    dial = Dial.of(some)
    assert dial.grid.shape == (301,)
    narrow = [(some.rungs(t) == 0).sum() for t in dial.grid.thresholds(np.arange(301))]
    assert narrow == list(range(300, -1, -1))
    wide = Grid.over(outcomes(2000, 4, decimals=6).scores)
    assert wide.shape == (40, 40, 40)
    for levels in wide.levels:
        assert (levels[0], levels[-1]) == (-NEVER, NEVER)


def test_a_threshold_lies_between_scores_or_on_the_upper_where_there_is_nothing_between() -> None:
    low = np.float32(1.5)
    high = np.nextafter(low, np.float32(2))
    grid = Grid.over(np.array([[low], [high], [3.5]], np.float32))
    assert grid.levels[0].tolist() == [-NEVER, high, 2.5, NEVER]


def test_a_budget_of_two_rungs_gets_the_threshold_closest_below_it() -> None:
    some = outcomes(200, 2)
    costs = [some.at(some.costs, np.array([t])).mean() for t in [-NEVER, *np.unique(some.scores) + 0.05, NEVER]]
    for budget in (0.45, 0.6, 0.95):
        spent = some.at(some.costs, np.array(Dial.of(some).spend(budget, accuracy(some)))).mean()
        assert spent == max(cost for cost in costs if cost <= budget)


def test_a_joint_budget_takes_the_best_of_what_spends_it() -> None:
    """Every combination on a few scores, tried one by one."""
    some = outcomes(40, 3)
    metric = accuracy(some)
    thresholds = list(product(*([-NEVER, *np.unique(column) + 0.05, NEVER] for column in some.scores.T)))
    spent = np.array([some.at(some.costs, np.array(t)).mean() for t in thresholds])
    values = np.array([metric(some.rungs(np.array(t))) for t in thresholds])
    within = spent <= 0.7
    near = within & (spent >= spent[within].max() - 0.01 * (spent.max() - spent.min()))
    chosen = np.array(Dial.of(some).spend(0.7, metric))
    assert some.at(some.costs, chosen).mean() <= 0.7
    assert metric(some.rungs(chosen)) == values[near].max()
    worst = np.array(Dial.of(some).spend(0.7, lambda rungs: -metric(rungs)))
    assert metric(some.rungs(worst)) < metric(some.rungs(chosen))


def test_a_budget_out_of_reach_is_told_what_can_be_had() -> None:
    dial = Dial.of(outcomes(200, 2))
    with pytest.raises(ValueError, match=r"latency_ms=0\.1 is out of reach: .* from 0\.\d+ to") as told:
        dial.spend(0.1, lambda rungs: 0.0, key="latency_ms")
    dial.spend(float(str(told.value).split(" from ")[1].split()[0]), lambda rungs: 0.0)


def test_the_p_value_and_the_bound_are_those_of_the_exact_binomial() -> None:
    for errors, samples, risk in ((0, 50, 0.02), (3, 500, 0.02), (40, 1000, 0.05), (7, 7, 0.3)):
        assert p_value(errors, samples, risk) == pytest.approx(binom.cdf(errors, samples, risk))
        expected = 1.0 if errors == samples else beta.ppf(0.9, errors + 1, samples - errors)
        assert upper_bound(errors, samples, 0.9) == pytest.approx(expected)
        if errors < samples:
            assert p_value(errors, samples, upper_bound(errors, samples, 0.9)) == pytest.approx(0.1)


def test_how_many_samples_would_do() -> None:
    assert samples_without_error(0.01, 0.95) == 299  # 0.99^298 > 0.05 >= 0.99^299
    assert samples_without_error(0.5, 0.75) == 2
    needed = samples_at(0.01, 0.02, 0.9)
    assert needed is not None
    assert binom.cdf(math.ceil(0.01 * needed), needed, 0.02) <= 0.1 < binom.cdf(math.ceil(0.01 * 300), 300, 0.02)
    assert 300 < needed < 800
    assert samples_at(0.02, 0.02, 0.9) is None
    assert samples_at(0.0, 0.02, 0.9) == samples_without_error(0.02, 0.9)


def test_a_sequence_ends_at_the_first_that_cannot_be_rejected() -> None:
    assert fixed_sequence([0, 1, 60, 0, 0], 500, 0.02, 0.9) == 2
    assert fixed_sequence([], 500, 0.02, 0.9) == 0
    assert binom.cdf(5, 500, 0.02) <= 0.1 < binom.cdf(6, 500, 0.02)
    assert fixed_sequence([5, 6], 500, 0.02, 0.9) == 1


def test_the_path_holds_the_points_that_no_other_beats() -> None:
    risk, cost = np.array([3, 0, 1, 1, 2, 0]), np.array([1.0, 9.0, 5.0, 6.0, 5.0, 8.0])
    assert pareto_path(risk, cost).tolist() == [5, 2, 0]


def known(size: int, wrong: Callable[[np.ndarray], np.ndarray], rungs: int, seed: int = 0) -> Outcomes:
    """A population: `wrong` is P(narrowest wrong, top right) at the quantile u of the score; a wider one halves it."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(size=size)
    sure = np.log(u / (1 - u))
    narrow = range(rungs - 1)
    logits = np.stack([sure + rng.normal(scale=i, size=size) + i for i in narrow] + [-sure], 1)
    right = np.stack([rng.uniform(size=size) >= wrong(u) / 2**i for i in narrow] + [u >= 0], 1)
    return Outcomes(scores_of(logits), np.tile(WIDE[rungs], (size, 1)), right.astype(float))


def kept(whole: Outcomes, samples: int, draws: int, max_drop: float) -> tuple[float, float]:
    """The share of broken promises over calibration sets drawn from a population, and the mean true cost."""
    risks, costs = [], []
    for draw in range(draws):
        rows = np.random.default_rng([draw, 7]).integers(len(whole), size=samples)
        try:
            thresholds = np.array(control(whole.select(rows), max_drop, 0.9, seed=draw).rule.starts)
        except ValueError:  # a draw that supports no point: everything stays at the top
            thresholds = np.full(whole.num_rungs - 1, NEVER)
        risks.append(whole.at(whole.errors, thresholds).mean())
        costs.append(whole.at(whole.costs, thresholds).mean())
    return float((np.array(risks) > max_drop).mean()), float(np.mean(costs))


@pytest.mark.parametrize(
    ("rungs", "wrong", "worst", "least"),
    [
        (2, lambda u: 0.3 * (1 - u) ** 2, 0.15, 0.05),
        (2, lambda u: np.full_like(u, 0.05), 0.15, 0.03),
        (3, lambda u: 0.3 * (1 - u) ** 2, 0.15, 0.01),
        (3, lambda u: np.full_like(u, 0.05), 0.15, 0.003),
    ],
)
def test_the_promise_holds_for_routers_of_known_risk_and_not_by_never_routing(
    rungs: int, wrong: Callable[[np.ndarray], np.ndarray], worst: float, least: float
) -> None:
    """Of 200 draws at most 15 % break it (10 % is promised: more than 30 of 200 come by chance once in 100), some do
    (a promise that never breaks is bought with cost), and half the possible saving or more is had."""
    whole = known(20_000, wrong, rungs)
    dial = Dial.of(whole)
    broken, cost = kept(whole, 1500, 200, max_drop=0.02)
    best = dial.costs[dial.grid.totals(whole.errors) / len(whole) <= 0.02].min()
    assert least <= broken <= worst
    assert (1 - cost) >= 0.5 * (1 - best)


def test_two_rungs_get_the_cheapest_threshold_that_passes() -> None:
    some = known(2000, lambda u: 0.3 * (1 - u) ** 2, 2)
    promise = control(some, 0.02, 0.9)
    passing = []
    for threshold in np.concatenate([np.unique(some.scores), [NEVER]]):
        errors = int(some.at(some.errors, np.array([threshold])).sum())
        if binom.cdf(errors, len(some), 0.02) <= 0.1:
            passing.append(some.at(some.costs, np.array([threshold])).mean())
    assert some.at(some.costs, np.array(promise.rule.starts)).mean() == min(passing)
    assert promise.errors == some.at(some.errors, np.array(promise.rule.starts)).sum()
    assert promise.bound == pytest.approx(beta.ppf(0.9, promise.errors + 1, 2000 - promise.errors))
    assert promise.bound <= 0.02


def test_a_joint_promise_is_tested_on_samples_that_did_not_choose_it_and_repeats_with_its_seed() -> None:
    some = known(2000, lambda u: 0.3 * (1 - u) ** 2, 3)
    promise = control(some, 0.02, 0.9, seed=4)
    assert promise == control(some, 0.02, 0.9, seed=4)
    assert promise != control(some, 0.02, 0.9, seed=5)
    assert promise.samples == 1000
    order = np.random.default_rng(4).permutation(2000)[1000:]
    tested = some.select(order)
    assert promise.errors == tested.at(tested.errors, np.array(promise.rule.starts)).sum()


@pytest.mark.parametrize("rungs", [2, 3])
def test_too_few_samples_are_told_how_many_would_do(rungs: int) -> None:
    some = known(200, lambda u: np.zeros_like(u), rungs)
    number = 299 if rungs == 2 else 598
    with pytest.raises(ValueError, match=f"from 200 texts: it takes {number} or more.* even without one error"):
        control(some, 0.01, 0.95)
    with pytest.raises(ValueError, match="even without one error"):
        control(known(number - rungs + 1, lambda u: np.zeros_like(u), rungs), 0.01, 0.95)
    assert control(known(number, lambda u: np.zeros_like(u), rungs), 0.01, 0.95).errors == 0


def test_a_router_that_cannot_keep_the_promise_is_refused_and_not_answered_by_all_top() -> None:
    blind = known(2000, lambda u: np.full_like(u, 0.9), 2)  # what saves 1 % has a risk of about 0.9 %
    with pytest.raises(ValueError, match=r"risk of (0|1)\.\d\d%, and it takes ([\d,]+) or more at that") as told:
        control(blind, 0.0115, 0.95)
    needed = int(str(told.value).split("it takes ")[1].split()[0].replace(",", ""))
    assert 2000 < needed < 50_000
    with pytest.raises(ValueError, match="no number of texts would do"):
        control(blind, 0.003, 0.95)
    with pytest.raises(ValueError, match="no number of texts would do"):
        control(known(2000, lambda u: np.full_like(u, 0.9), 3), 0.004, 0.95)
