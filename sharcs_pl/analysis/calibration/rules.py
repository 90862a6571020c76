"""Operating points of any rule: the best setting for a budget, or the cheapest that keeps a promise.

The router alone is searched by `budget` and `risk_control`, which use that its choice is one threshold per width. Here
a setting is a whole `DecisionRule`, whose costs and answers are those of its own decisions.

Legend: `S` samples, `W` rungs, `P` settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sharcs_pl.analysis.calibration.budget import BAND, SHORTLIST, out_of_reach
from sharcs_pl.analysis.calibration.points import Views, decided
from sharcs_pl.analysis.calibration.risk import (
    cannot,
    fixed_sequence,
    pareto_path,
    samples_at,
    samples_without_error,
    upper_bound,
)
from sharcs_pl.analysis.calibration.risk_control import USEFUL
from sharcs_pl.core.decision import BEST, RULES, DecisionRule, rules_of
from sharcs_pl.models.sweeps import sweep_rule

LEVELS, COMBINATIONS = 200, 400  # of thresholds, searched on the calibration texts
_DOUBT = np.geomspace(1e-6, 1, 120)  # 1 - certainty of a path that no text has chosen


@dataclass(frozen=True)
class Settings:
    """The outcomes of settings on samples: `costs` float32 [P, S] of any unit, `quality` float32 [P, S] (1 for a right
    answer, or minus the squared error of a regression) and `errors` bool [P, S], wrong where the top rung is right."""

    rules: Sequence[DecisionRule]
    costs: np.ndarray
    quality: np.ndarray
    errors: np.ndarray

    @classmethod
    def of(cls, rules: Sequence[DecisionRule], views: Views, by_latency: bool = False) -> Settings:
        """Return the outcomes of `rules` on the samples, with milliseconds as costs if `by_latency`."""
        top = views.outcomes.quality[:, -1]
        costs, quality = [], []
        for rule in rules:
            found = decided(views, rule)
            costs.append(views.milliseconds(found) if by_latency else views.fractions(found))
            quality.append(views.quality(found))
        right = np.stack(quality).astype(np.float32)
        return cls(rules, np.stack(costs).astype(np.float32), right, (top > 0) & (right <= 0))

    def spend(self, budget: float, metric: Callable[[DecisionRule], float], key: str) -> DecisionRule:
        """Return the setting that makes the most of a mean cost of `budget`: of those that come close to it, the best
        by `metric` among those of best mean quality. Raise `ValueError` with `key` and the reach."""
        costs, quality = self.costs.mean(1), self.quality.mean(1)
        within = np.flatnonzero(costs <= budget)
        if not len(within):
            raise out_of_reach(key, budget, float(costs.min()), float(costs.max()))
        near = within[costs[within] >= costs[within].max() - BAND * (costs.max() - costs.min())]
        best = near[np.lexsort((costs[near], -quality[near]))][:SHORTLIST]
        values = [metric(self.rules[i]) for i in best]
        return self.rules[int(best[int(np.argmax(values))])]


@dataclass(frozen=True)
class RulePromise:
    """A setting whose risk is at most the one asked for, with the number of `samples` that tested it and the exact
    upper `bound` of the risk."""

    rule: DecisionRule
    samples: int
    bound: float


def names_of(name: str, views: Views) -> tuple[str, ...]:
    """Return the rules that ``rule=`` asks for: those that the model can have for ``best``, else the one."""
    cost = views.cost
    known = rules_of(len(cost.ladder), cost.has_router, views.predictions.logits.shape[2], bool(cost.skim))
    return tuple(rule for rule in RULES if rule in known) if name == BEST else (name,)


def searched(name: str, views: Views) -> list[DecisionRule]:
    """Return the settings that are searched on the texts."""
    found, routed = views.predictions, views.cost.has_router
    points = [
        point
        for rule in names_of(name, views)
        for point in sweep_rule(rule, found.logits, found.router_logits if routed else None, LEVELS, COMBINATIONS)
    ]
    return [point.rule for point in points if point.rule is not None]


def control_rule(name: str, views: Views, max_drop: float, confidence: float, seed: int) -> RulePromise:
    """Return the cheapest setting whose risk is at most `max_drop` with `confidence`, over the draw of the samples.

    A cascade is tested along two paths that no sample has chosen: the same certainty asked of every width, from 1
    downwards, with the last answer and with the average of all; each path at half of the level (Learn-then-Test,
    arXiv 2110.01052, section 3). Other rules have more thresholds: one half of the samples, drawn by `seed`, finds
    the settings that no other beats in risk and cost, the other half tests them in that order (Pareto testing, arXiv
    2210.07913). Raise `ValueError` where the samples support no setting that saves anything.
    """
    if name == "cascade":
        paths, tested, level = list(_fixed_paths(views)), views, 1 - (1 - confidence) / 2
    else:
        order = np.random.default_rng(seed).permutation(len(views.outcomes))
        half = len(order) // 2
        tested, level = views.select(np.sort(order[half:])), confidence
        paths = [_found_path(name, views.select(np.sort(order[:half])))]
    passed = [_passed(path, tested, max_drop, level) for path in paths]
    found = [(settings, place) for settings, place in passed if place >= 0]
    if not found:
        raise ValueError(_refusal(passed[0][0], len(views.outcomes), max_drop, level))
    settings, place = min(found, key=lambda pair: float(pair[0].costs[pair[1]].mean()))
    errors, size = int(settings.errors[place].sum()), settings.errors.shape[1]
    return RulePromise(settings.rules[place], size, upper_bound(errors, size, level))


def _fixed_paths(views: Views) -> Iterator[list[DecisionRule]]:
    narrow = len(views.cost.ladder) - 1
    for average in (False, True):
        yield [DecisionRule("cascade", stops=(1 - x,) * narrow, average=average) for x in _DOUBT.tolist()]


def _found_path(name: str, views: Views) -> list[DecisionRule]:
    """Return the settings of the samples' Pareto frontier that save something, from the least risk to the least cost;
    those of equal risk from the dearest to the cheapest, since what is cautious costs no power."""
    settings = Settings.of(searched(name, views), views)
    risk, cost = settings.errors.sum(1), settings.costs.mean(1)
    path = pareto_path(risk, cost)
    ordered = [i for _, same in groupby(path, key=lambda i: risk[i]) for i in sorted(same, key=lambda i: -cost[i])]
    least = _spread(np.flatnonzero(risk == risk.min()), cost, float(cost[path[0]]))
    return [settings.rules[i] for i in [*least, *ordered]]


def _spread(rows: np.ndarray, cost: np.ndarray, cheapest: float) -> list[int]:
    """Return a few settings of the least risk between full cost and the cheapest of them, the dearest first."""
    wanted = np.linspace(1.0, cheapest, 5)[1:-1]
    return [int(rows[np.abs(cost[rows] - x).argmin()]) for x in wanted]


def _passed(path: Sequence[DecisionRule], views: Views, max_drop: float, level: float) -> tuple[Settings, int]:
    """Return the settings of a path up to one that saves something and fails, and the place of the cheapest that
    passed, -1 if none that saves something did."""
    tried: list[Settings] = []

    def errors() -> Iterator[int]:
        for rule in path:
            tried.append(Settings.of([rule], views))
            yield int(tried[-1].errors.sum())

    passed = fixed_sequence(errors(), len(views.outcomes), max_drop, level)
    while len(tried) < len(path) and tried[-1].costs.mean() > 1 - USEFUL:
        tried.append(Settings.of([path[len(tried)]], views))
    settings = Settings(
        path[: len(tried)],
        *(np.concatenate([getattr(x, name) for x in tried]) for name in ("costs", "quality", "errors")),
    )
    costs = settings.costs[:passed].mean(1)
    saving = np.flatnonzero(costs <= 1 - USEFUL)
    return settings, int(saving[costs[saving].argmin()]) if len(saving) else -1


def _refusal(settings: Settings, size: int, max_drop: float, level: float) -> str:
    """Return why there is no point, and about how many texts would do at the risk of the first that saves something."""
    fewest = samples_without_error(max_drop, level)
    tested, costs = settings.errors.shape[1], settings.costs.mean(1)
    begin = f"{cannot(size, max_drop, level)}"
    if tested < fewest:
        return f"{begin}: it takes {fewest * size // tested + 1:,} or more even without one error"
    saving = np.flatnonzero(costs <= 1 - USEFUL)
    risk = float(settings.errors[: saving[0] + 1].mean(1).max()) if len(saving) else 1.0
    needed = samples_at(risk, max_drop, level)
    seen = f"{begin}: the first saving of note shows a risk of {risk:.2%}"
    return f"{seen}, and {'no number of' if needed is None else f'{needed * size // tested:,} or more'} texts would do"
