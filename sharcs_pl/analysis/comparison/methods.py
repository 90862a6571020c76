"""The methods of one task side by side: seeds averaged, frontiers, areas, and whether differences could be chance.

A *method* here is a group of runs that differ in the seed alone. Cost is a fraction of one dense model's multiply-adds,
the same for all of a task's methods, so that a smaller encoder counts as cheaper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from sharcs_pl.analysis.comparison.chance import Chance, Versus
from sharcs_pl.analysis.comparison.runs import OWN, CurvePoint, RunResult
from sharcs_pl.core.text import one_line

_MOST_KEYS = 4  # in a method's name
CONTROLS = (
    "width",
    "exit",
    "random",
    "router",
    "cascade",
    "router+cascade",
)  # beside a method's own rule, as curve.csv names them
SLACK = 0.005  # of the dense cost: a point this far over a budget, as for its router, still meets it


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds (None for one)."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class MeanPoint:
    """An operating point over seeds; `cost` is a fraction of dense."""

    name: str
    cost: Spread
    value: Spread


@dataclass(frozen=True)
class MethodRuns:
    """A name and its runs, which differ in the seed alone."""

    name: str
    runs: tuple[RunResult, ...]

    @property
    def full(self) -> bool:
        """True if it runs the whole model on every sample."""
        return all(run.full for run in self.runs)


@dataclass(frozen=True)
class Standing:
    """The row of a method. `at_budget` and `area` are None where it has no point that cheap, or no labels are known; so
    is each value of `controls`, which a control's curve gives at the budget."""

    method: MethodRuns
    value: Spread
    cost: Spread
    at_budget: Spread | None
    controls: dict[str, Spread | None]
    area: Spread | None
    oracle: MeanPoint | None
    to_dense: Versus | None
    to_best: Versus | None


@dataclass(frozen=True)
class TaskComparison:
    """The section of a task; `dense` is the method that runs the whole model, where there is one. `on_texts` groups the
    runs, as ``(method, seed)``, by the texts and labels they were evaluated on; runs without answers are left out."""

    task: str
    metric: str
    dense_macs: float
    dense: MethodRuns | None
    standings: tuple[Standing, ...]
    budget: float
    on_texts: tuple[tuple[tuple[str, int], ...], ...]


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (cost, value) points that are better than every cheaper one, cheapest first."""
    kept: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or value > kept[-1][1]:
            kept.append((cost, value))
    return kept


def value_at(points: Sequence[tuple[float, float]], budget: float) -> float | None:
    """Return the value that a mean cost of `budget` buys: linear between neighbours on the frontier (which dealing
    samples to the two at random achieves in expectation), constant beyond the dearest, None below the cheapest."""
    kept = frontier(points)
    if not kept or budget < kept[0][0] - SLACK:
        return None
    costs, values = zip(*kept, strict=True)
    return float(np.interp(budget, costs, values))


def area(points: Sequence[tuple[float, float]], constant: float) -> float:
    """Return the mean of `value_at` over budgets from 0 to 1. Below the cheapest point samples are mixed with the best
    constant answer, which costs nothing and is worth `constant`."""
    kept = frontier([(0.0, constant), *points])
    grid = np.unique([0.0, 1.0, *(cost for cost, _ in kept if cost < 1)])
    costs, values = zip(*kept, strict=True)
    return float(np.trapezoid(np.interp(grid, costs, values), grid))


def mean_points(method: MethodRuns, control: str, dense_macs: float) -> list[MeanPoint]:
    """Return the points of a control that every seed has, averaged by name, cheapest first."""
    each = [{point.name: point for point in run.curves.get(control, [])} for run in method.runs]
    names = [name for name in each[0] if all(name in points for points in each)]
    found = [_mean(name, [points[name] for points in each], dense_macs) for name in names]
    return sorted(found, key=lambda point: point.cost.mean)


def _mean(name: str, points: Sequence[CurvePoint], dense_macs: float) -> MeanPoint:
    cost, value = Spread.of([p.macs / dense_macs for p in points]), Spread.of([p.value for p in points])
    return MeanPoint(name, cost, value)


def compare_methods(methods: Sequence[MethodRuns], budget: float, draws: int, seed: int) -> TaskComparison:
    """Return the section of one task. Raise `ValueError` where the runs are of different tasks."""
    runs = [run for method in methods for run in method.runs]
    _check_same(runs)
    dense = _dense(methods)
    dense_macs = dense.runs[0].dense_macs if dense else max(run.dense_macs for run in runs)
    chance = Chance(runs, draws, seed)
    rows = [_standing(method, methods, dense, dense_macs, budget, chance) for method in methods]
    rows.sort(key=lambda row: (row.at_budget is None, -(row.at_budget or row.value).mean))
    return TaskComparison(runs[0].task, runs[0].metric_name, dense_macs, dense, tuple(rows), budget, _on_texts(methods))


def _on_texts(methods: Sequence[MethodRuns]) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Return the runs of each set of texts and labels, in the order in which the sets come."""
    found: dict[str, list[tuple[str, int]]] = {}
    for method in methods:
        for run in method.runs:
            if run.answers is not None:
                found.setdefault(run.answers.samples, []).append((method.name, run.seed))
    return tuple(map(tuple, found.values()))


def _standing(
    method: MethodRuns,
    methods: Sequence[MethodRuns],
    dense: MethodRuns | None,
    dense_macs: float,
    budget: float,
    chance: Chance,
) -> Standing:
    curves = [_shape(run.curves.get(OWN, [run.routed]), dense_macs) for run in method.runs]
    controls = {
        name: _at([_shape(run.curves[name], dense_macs) for run in method.runs], budget)
        for name in CONTROLS
        if all(run.curves.get(name) for run in method.runs)
    }
    constants = [chance.constant(run) for run in method.runs]
    areas = [area(curve, worth) for curve, worth in zip(curves, constants, strict=True) if worth is not None]
    oracles = [run.oracle for run in method.runs if run.oracle and not run.static]
    rival = _best_rival(method, methods, dense_macs)
    return Standing(
        method=method,
        value=Spread.of([run.routed.value for run in method.runs]),
        cost=Spread.of([run.routed.macs / dense_macs for run in method.runs]),
        at_budget=_at(curves, budget),
        controls=controls,
        area=Spread.of(areas) if areas else None,
        oracle=_mean("oracle", oracles, dense_macs) if oracles else None,
        to_dense=chance.versus(dense.name, method.runs, dense.runs) if dense and dense is not method else None,
        to_best=chance.versus(rival.name, method.runs, rival.runs) if rival else None,
    )


def _shape(points: Sequence[CurvePoint], dense_macs: float) -> list[tuple[float, float]]:
    return [(point.macs / dense_macs, point.value) for point in points]


def _at(curves: Sequence[list[tuple[float, float]]], budget: float) -> Spread | None:
    """Return the value of the curves, one per seed, at the budget; None unless each reaches it."""
    known = [value for value in (value_at(curve, budget) for curve in curves) if value is not None]
    return Spread.of(known) if len(known) == len(curves) else None


def _best_rival(method: MethodRuns, methods: Sequence[MethodRuns], dense_macs: float) -> MethodRuns | None:
    """Return the most accurate other method, each as it was trained to run, that costs no more."""

    def mean(of: MethodRuns, what: Callable[[RunResult], float]) -> float:
        return fmean(what(run) for run in of.runs)

    limit = mean(method, lambda run: run.routed.macs) + SLACK * dense_macs
    others = [m for m in methods if m is not method and mean(m, lambda run: run.routed.macs) <= limit]
    return max(others, key=lambda m: mean(m, lambda run: run.routed.value), default=None)


def _dense(methods: Sequence[MethodRuns]) -> MethodRuns | None:
    """Return the largest model that is run whole."""
    return max((m for m in methods if m.full), key=lambda m: m.runs[0].dense_macs, default=None)


def _check_same(runs: Sequence[RunResult]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if (run.task, run.metric_name) != (first.task, first.metric_name):
            raise ValueError(
                f"runs: {run.path} is of task={run.task} ({run.metric_name}), {first.path} of task={first.task} "
                f"({first.metric_name}); they do not go into one figure"
            )


def group_runs(runs: Sequence[tuple[str | None, RunResult]]) -> list[MethodRuns]:
    """Group runs into methods, by their given name, else by their settings but for the seed. Raise `ValueError` when a
    method then has one seed twice."""
    groups: dict[Any, list[RunResult]] = {}
    for name, run in runs:
        # A run that does not say how it was trained is a seed of no other.
        settings = tuple(sorted(run.settings.items())) or run.path
        key = name if name is not None else (run.method, run.encoder, settings)
        groups.setdefault(key, []).append(run)
    names = _names({key: found[0] for key, found in groups.items()})
    methods = [MethodRuns(names[key], tuple(sorted(found, key=lambda r: r.seed))) for key, found in groups.items()]
    for method in methods:
        seeds = [run.seed for run in method.runs]
        twice = next((run for i, run in enumerate(method.runs) if run.seed in seeds[:i]), None)
        if twice is not None:
            raise ValueError(f"runs: {method.name} has seed {twice.seed} twice, the second time in {twice.path}")
    return methods


def _names(firsts: dict[Any, RunResult]) -> dict[Any, str]:
    """Return a name per group: the given one, else the method's with what tells it from others of its name."""
    found = {}
    for key, run in firsts.items():
        if isinstance(key, str):
            found[key] = key
            continue
        same = [other for name, other in firsts.items() if not isinstance(name, str) and other.method == run.method]
        found[key] = run.method if len(same) == 1 else f"{run.method} ({_differences(same)[run.path]})"
    return found


def _differences(same: Sequence[RunResult]) -> dict[Path, str]:
    """Return the shortest words that tell each run of a method from the others."""
    keys = sorted({key for run in same for key in run.settings})
    differing = [key for key in keys if len({run.settings.get(key) for run in same}) > 1]
    of_the_model = [key for key in differing if not key.startswith(("task.", "trainer."))]
    ways = [_settings(run_keys, same) for run_keys in (of_the_model, differing) if 0 < len(run_keys) <= _MOST_KEYS]
    places = [run.path.absolute() for run in same]
    above = os.path.commonpath([place.parent for place in places])  # what lies above it is nobody's business
    ways += [[one_line(place.name) for place in places], [one_line(place.relative_to(above)) for place in places]]
    telling = next(words for words in ways if len(set(words)) == len(same))
    return {run.path: words for run, words in zip(same, telling, strict=True)}


def _settings(keys: Sequence[str], runs: Sequence[RunResult]) -> list[str]:
    named = [[f"{key.removesuffix('.name')}={run.settings.get(key, '-')}" for key in keys] for run in runs]
    return [", ".join(words) for words in named]
