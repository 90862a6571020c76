"""``curve.csv``: the operating points that one training leaves, and the controls to compare them with.

Rows of the run's own rule carry its method's name, all others ``<method>/<control>``: ``router``, ``cascade`` and
``router+cascade`` (the other rules that the model can have), ``random`` (samples dealt to rungs by chance), ``width``
or ``exit`` (every sample at the same), ``oracle`` (the cheapest that is right) and ``agreement`` (the cheapest that
answers as the widest does). Rules and random routing are read at budgets, by `halving`; their ``threshold`` is the
median of those chosen. A regression has neither oracle nor agreement.

Legend: S samples, W rungs or exits, C classes. MACs are multiply-adds per sample.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharcs_pl.core.files import atomic_file
from sharcs_pl.evaluation.bootstrap import resampled_metric
from sharcs_pl.evaluation.halving import DRAWS, HALVINGS, Costs, HalvedRule, Halves, Setting, Table
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import RulePoint, point_of
from sharcs_pl.models.decision import Decision
from sharcs_pl.models.sweeps import SweptPoint

BUDGETS = 20  # of a rule's rows
RANDOM = "random"
_DEALS = 5  # random routings, each read by its own halvings
_SHARES = 26  # of two rungs between which samples are dealt, as many as the router has settings
_TENTHS = tuple(x / 10 for x in range(1, 10))  # budgets that the end table may show
_SHOWN = 3
_MOST_OF_AREA = 5000  # samples, so that a thousand settings take seconds


@dataclass(frozen=True)
class CurveRow:
    """One operating point; ``threshold`` has the unit of its key, and is None where the point has none."""

    method: str
    point: str
    threshold: float | None
    value: float
    macs: float
    macs_fraction: float


@dataclass(frozen=True)
class Curves:
    """The rows of one model on one labelled split, for a method's name and the task's first metric; ``seed`` draws the
    halvings and the random routing."""

    method: str
    metric: str
    model: Any
    predictions: Predictions
    seed: int
    _known: dict[str, list[HalvedRule]] = field(default_factory=dict, repr=False)
    _drawn: dict[str, HalvedRule] = field(default_factory=dict, repr=False)

    def rows(self) -> list[CurveRow]:
        """Return all rows."""
        own = self.model.own_rule if self.model.own_rule in self._swept else None
        fixed = list(self._fixed(f"/{self.model.ladder.control}" if own else ""))
        if len(self.model.ladder) < 2:
            return fixed
        found = [self._row("", "trained", self.predictions), *self._halved(own, "")] if own else []
        others = [name for name in (RANDOM, *self._swept) if name != own] if self._swept else []
        halved = [row for name in others for row in self._halved(name, f"/{name}")]
        return [*found, *fixed, *halved, *self._oracles()]

    def rules(self) -> list[RulePoint]:
        """Return each rule and random routing at a few budgets, with a 95 % interval of the difference to the widest
        rung."""
        if self.model.ladder.kind != "width" or not self._swept:
            return []
        draws = self._draws
        top = torch.full_like(self.predictions.rungs, self.model.ladder.top)
        widest = resampled_metric(self.metric, self.predictions.at(top), self.predictions.labels)
        full = widest(draws.whole)
        seen = float(widest(np.ones((1, draws.first.shape[1]), int))[0])
        found: list[RulePoint] = []
        for name in (*self._swept, RANDOM):
            for budget in self._shown_budgets():
                value, cost, _ = self.read(name, budget)
                low, high = np.quantile(self.drawn(name, budget) - full, (0.025, 0.975)).tolist()
                found.append(RulePoint(name, budget, value, cost, value - seen, low, high))
        return found

    @cached_property
    def _swept(self) -> dict[str, list[SweptPoint]]:
        if len(self.predictions.uids) < 2:  # which have no halves
            return {}
        return self.model.sweep(self.predictions.logits, self.predictions.router_logits)

    @property
    def _data(self) -> tuple[Predictions, str, Costs]:
        return self.predictions, self.metric, self._costs

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.predictions, self.model.cost)

    @cached_property
    def _halves(self) -> Halves:
        return Halves.of(len(self.predictions.uids), HALVINGS, self.seed)

    @cached_property
    def _draws(self) -> Halves:
        return Halves.of(len(self.predictions.uids), DRAWS, self.seed, resampled=True)

    def _halved_rules(self, name: str) -> list[HalvedRule]:
        """Return a rule's readings, one for every deal of random routing."""
        if name not in self._known:
            self._known[name] = [HalvedRule(settings, self._halves) for settings in self._settings(name)]
        return self._known[name]

    def _settings(self, name: str) -> list[list[Setting]]:
        deals = self._random() if name == RANDOM else [self._swept[name]]
        return [[Setting(point, *self._data) for point in points] for points in deals]

    def _random(self) -> Iterator[list[SweptPoint]]:
        """Yield deals of samples to rungs by chance, at shares from one rung to another of every two."""
        rungs, generator = len(self.model.ladder), torch.Generator().manual_seed(self.seed)
        pairs = [(low, high) for low, high in combinations(range(rungs), 2) if low == 0 or high == low + 1]
        for _ in range(_DEALS):
            points = []
            for low, high in pairs:
                place = torch.randperm(len(self.predictions.uids), generator=generator)
                for share in torch.linspace(0, 1, _SHARES).tolist():
                    dealt = torch.where(place < round(share * len(place)), high, low)
                    points.append(SweptPoint(None, Decision.at(dealt, self.predictions.logits)))
            yield points

    def _budgets(self) -> np.ndarray:
        """Return the budgets of the rows, from the cheapest rung for all to the dearest."""
        return np.linspace(*self._span(), BUDGETS)

    def _shown_budgets(self) -> list[float]:
        least, most = self._span()
        return [x for x in _TENTHS if least <= x <= most][:_SHOWN]

    def _span(self) -> tuple[float, float]:
        """Return the cost of the cheapest rung for all and of the dearest, as fractions of dense."""
        fractions = self.predictions.rung_macs(self.model.cost).mean(0) / self._costs.dense.mean()
        return float(fractions.min()), float(fractions.max())

    def read(self, name: str, budget: float) -> tuple[float, float, float | None]:
        """Return the value, the cost and the threshold of a rule, or of ``random``, at a budget, both as fractions of
        dense."""
        readings = [rule.read(budget) for rule in self._halved_rules(name)]
        value, cost = (float(np.mean([getattr(x, key) for x in readings])) for key in ("values", "costs"))
        return value, cost, readings[0].threshold

    def drawn(self, name: str, budget: float) -> np.ndarray:
        """Return the values of a rule, or of ``random``, at a budget on bootstrap draws of the samples [T], the same
        draws for every rule."""
        if name not in self._drawn:
            self._drawn[name] = HalvedRule(self._settings(name)[0], self._draws)
        return self._drawn[name].read(budget).values

    def _halved(self, name: str, control: str) -> Iterator[CurveRow]:
        dense = float(self._costs.dense.mean())
        for budget in self._budgets().tolist():
            value, cost, threshold = self.read(name, budget)
            yield CurveRow(self.method + control, f"budget {budget:.3f}", threshold, value, cost * dense, cost)

    def _oracles(self) -> Iterator[CurveRow]:
        if not self.predictions.kind.has_classes:
            return
        for name, rungs in (
            ("oracle", self.predictions.oracle_rungs()),
            ("agreement", self.predictions.agreeing_rungs()),
        ):
            yield self._row(f"/{name}", name, self.predictions.on(rungs))

    def _fixed(self, control: str) -> Iterator[CurveRow]:
        for rung, label in enumerate(self.model.ladder.labels()):
            name = f"width {label}" if self.model.ladder.kind == "width" else label
            yield self._row(control, name, self.predictions.on(torch.full_like(self.predictions.rungs, rung)))

    def _row(self, control: str, point: str, found: Predictions) -> CurveRow:
        return CurveRow(self.method + control, point, None, **asdict(point_of(found, self.metric, self.model.cost)))


def area_under(model: Any, found: Predictions, metric: str) -> float:
    """Return the mean of the best value within a budget, over budgets from the cheapest rung for all to the dearest.

    What can be had is every rung for all samples, and each rule of the model with thresholds chosen and read on the
    same samples. So it flatters, and serves to compare models of one ladder on the same samples, of which it takes at
    most `_MOST_OF_AREA`, evenly.
    """
    found = found.select(torch.arange(0, len(found.uids), math.ceil(len(found.uids) / _MOST_OF_AREA)))
    costs, whole = Costs(found, model.cost), np.ones((1, len(found.uids)), dtype=int)
    fixed = [torch.full_like(found.rungs, rung) for rung in range(len(model.ladder))]
    points = [SweptPoint(None, Decision.at(rungs, found.logits)) for rungs in fixed]
    span = Table.of([Setting(point, found, metric, costs) for point in points], whole).costs
    points += [point for swept in model.sweep(found.logits, found.router_logits).values() for point in swept]
    table = Table.of([Setting(point, found, metric, costs) for point in points], whole)
    budgets = np.linspace(span.min(), span.max(), BUDGETS)
    return float(np.where(table.costs <= budgets + 1e-9, table.values, -np.inf).max(0).mean())


def write_curve(path: Path, rows: Sequence[CurveRow]) -> None:
    """Write the rows as a csv file, whole; a missing threshold is left empty."""
    with atomic_file(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(CurveRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
