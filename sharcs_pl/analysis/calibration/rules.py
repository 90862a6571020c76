"""Operating points of any rule: the best setting for a budget, or the cheapest that keeps a promise.

The router alone is searched by `budget` and `risk_control`, which use that its choice is one threshold per width. Here
a setting is a whole `DecisionRule`, whose costs and answers are those of its own decisions.

Legend: `S` samples, `W` rungs, `P` settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from sharcs_pl.analysis.calibration.budget import BAND, Dial, best_within
from sharcs_pl.analysis.calibration.risk import (
    cannot,
    fixed_sequence,
    pareto_path,
    samples_at,
    samples_without_error,
    upper_bound,
)
from sharcs_pl.analysis.calibration.risk_control import USEFUL, Promise
from sharcs_pl.analysis.calibration.temperatures import fit_temperatures
from sharcs_pl.analysis.calibration.views import Views, decided
from sharcs_pl.core.decision import BEST, CERTAINTIES, DecisionRule, rules_of
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.models.sweeps import forms_of, settings_of

LEVELS, COMBINATIONS = 200, 400  # of thresholds, searched on the calibration texts
_DOUBT = np.geomspace(1e-6, 1, 120)  # how far below the surest a path is that no text has chosen


@dataclass(frozen=True)
class Cascades:
    """The cascades that are searched: by a `certainty`, None for the task's own, with the last answer, the average of
    all or both (`averages`), and with `temperatures` that fit the samples."""

    certainty: str | None = None
    averages: tuple[bool, ...] = (False, True)
    temperatures: bool = False


ANY = Cascades()


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
        return cls(rules, np.stack(costs).astype(np.float32), right, (top >= 1) & (right < 1))

    def spend(self, budget: float, metric: Callable[[DecisionRule], float], key: str) -> DecisionRule:
        """Return the setting that makes the most of a mean cost of `budget`: of those that come close to it, the best
        by `metric` among those of best mean quality. Raise `ValueError` with `key` and the reach."""
        best = best_within(self.costs.mean(1), self.quality.mean(1), budget, BAND, key)
        values = [metric(self.rules[i]) for i in best]
        return self.rules[int(best[int(np.argmax(values))])]


def forms(name: str, views: Views, cascades: Cascades) -> list[DecisionRule]:
    """Return the rules that ``rule=`` asks for, those that the model can have for ``best``, without thresholds."""
    found, cost = views.predictions, views.cost
    num_labels = found.logits.shape[2]
    names = rules_of(len(cost.ladder), cost.has_router, num_labels, bool(cost.skim)) if name == BEST else (name,)
    given = num_labels, views.task.multi_label, cascades.certainty, cascades.averages
    plain = [form for each in names for form in forms_of(each, *given)]
    if not cascades.temperatures:
        return plain
    return [fit_temperatures(form, found.logits, found.labels) if form.cascades else form for form in plain]


def searched(name: str, views: Views, cascades: Cascades = ANY) -> list[DecisionRule]:
    """Return the settings that are searched on the texts."""
    found = views.predictions
    scores = found.router_logits if views.cost.has_router else None
    tried = forms(name, views, cascades)
    return [setting for form in tried for setting in settings_of(form, found.logits, scores, LEVELS, COMBINATIONS)]


def setting_within(
    name: str, views: Views, target: float, key: str = "budget", cascades: Cascades = ANY
) -> DecisionRule:
    """Return the setting of a rule that makes the most of a mean cost of `target`: a fraction of dense, or milliseconds
    where `key` is ``latency_ms``. Raise `ValueError` with `key` and the reach where none is within it."""
    by_latency = key == "latency_ms"
    if name == "router":
        outcomes = views.by_latency if by_latency else views.outcomes
        return DecisionRule(starts=Dial.of(outcomes).spend(target, views.metric, key))

    def metric(rule: DecisionRule) -> float:
        found = decided(views, rule)
        return compute_metric(views.task.metric, found.routed_logits(), found.labels)

    return Settings.of(searched(name, views, cascades), views, by_latency).spend(target, metric, key)


def control_rule(
    name: str, views: Views, max_drop: float, confidence: float, seed: int, cascades: Cascades = ANY
) -> Promise:
    """Return the cheapest setting whose risk is at most `max_drop` with `confidence`, over the draw of the samples.

    A cascade is tested along two paths that no sample has chosen: the same certainty asked of every width, from 1
    downwards, with the last answer and with the average of all; each path at its share of the level (Learn-then-Test,
    arXiv 2110.01052, section 3). Other rules have more thresholds: one half of the samples, drawn by `seed`, finds
    the settings that no other beats in risk and cost, the other half tests them in that order (Pareto testing, arXiv
    2210.07913). The half that tests fits no temperatures either. Raise `ValueError` where the samples support no
    setting that saves anything.
    """
    finding = tested = views
    if cascades.temperatures or name != "cascade":
        finding, tested = views.split(len(views.outcomes) // 2, seed)
    if name == "cascade":
        paths = [_fixed_path(form, views) for form in forms(name, finding, cascades)]
    else:
        paths = [_found_path(searched(name, finding, cascades), finding)]
    level = 1 - (1 - confidence) / len(paths)
    passed = [_passed(path, tested, max_drop, level) for path in paths]
    found = [(settings, place) for settings, place in passed if place >= 0]
    if not found:
        raise ValueError(_refusal(passed[0][0], len(views.outcomes), max_drop, level))
    settings, place = min(found, key=lambda pair: float(pair[0].costs[pair[1]].mean()))
    errors, size = int(settings.errors[place].sum()), settings.errors.shape[1]
    return Promise(settings.rules[place], errors, size, upper_bound(errors, size, level))


def _fixed_path(form: DecisionRule, views: Views) -> list[DecisionRule]:
    surest = CERTAINTIES[form.certainty].high
    return [replace(form, stops=(surest - x,) * (len(views.cost.ladder) - 1)) for x in _DOUBT.tolist()]


def _found_path(rules: Sequence[DecisionRule], views: Views) -> list[DecisionRule]:
    """Return the settings of the samples' Pareto frontier that save something, from the least risk to the least cost;
    those of equal risk from the dearest to the cheapest, since what is cautious costs no power."""
    settings = Settings.of(rules, views)
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
    begin = cannot(size, max_drop, level)
    if tested < fewest:
        return f"{begin}: it takes {fewest * size // tested + 1:,} or more even without one error"
    saving = np.flatnonzero(costs <= 1 - USEFUL)
    risk = float(settings.errors[: saving[0] + 1].mean(1).max()) if len(saving) else 1.0
    needed = samples_at(risk, max_drop, level)
    seen = f"{begin}: the first saving of note shows a risk of {risk:.2%}"
    return f"{seen}, and {'no number of' if needed is None else f'{needed * size // tested:,} or more'} texts would do"
