"""The value of a rule at a budget, with thresholds chosen on one half of the samples and read on the other.

A rule that is swept and read on the same samples keeps the luck of its best setting, which a control that is averaged
does not have. Here each half chooses for the other one, and the results are averaged over many halvings. The interval
comes from a bootstrap whose draws contain the choosing.

Legend: `S` samples, `P` settings of a rule, `T` sets of samples. Counts [T, S] say how often each sample is in a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharcs_pl.core.flops import CostModel
from sharcs_pl.evaluation.bootstrap import resampled_metric
from sharcs_pl.evaluation.predictions import Cost, Predictions
from sharcs_pl.models.sweeps import SweptPoint

HALVINGS = 50
DRAWS = 200  # of the bootstrap
BAND = 0.05  # of the budget: settings this close to the dearest within it compete by the metric
_MOST = 4_000_000  # samples that are counted in all, which keeps large splits to seconds


@dataclass(frozen=True)
class Halves:
    """Pairs of complementary halves of the samples, or of bootstrap draws of them: `first` and `second`, counts
    [T, S]."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, size: int, number: int, seed: int, resampled: bool = False) -> Halves:
        """Return `number` random halvings of `size` samples, two or more. With `resampled` each half is drawn with
        replacement from its own samples, so that none is in both."""
        rng = np.random.default_rng(seed)
        number, half = max(8, min(number, _MOST // size)), size // 2
        inside = rng.permuted(np.tile(np.arange(size) < half, (number, 1)), axis=1)
        if not resampled:
            return cls(inside.astype(int), (~inside).astype(int))
        return cls(rng.multinomial(half, inside / half), rng.multinomial(size - half, ~inside / (size - half)))

    @property
    def whole(self) -> np.ndarray:
        """Counts [T, S] of both halves together."""
        return self.first + self.second


@dataclass(frozen=True)
class Table:
    """Every setting of a rule on sets of samples: `values` of the metric and `costs` as fractions of dense, [P, T]."""

    values: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, settings: Sequence[Setting], counts: np.ndarray) -> Table:
        """Evaluate the settings on the sets of `counts` [T, S]."""
        values = np.stack([setting.metric(counts) for setting in settings])
        spent = np.stack([setting.spent for setting in settings]) @ counts.T
        return cls(values, spent / (counts @ settings[0].dense))

    def choose(self, budget: float) -> np.ndarray:
        """Return the setting that each set of samples chooses at a budget, int [T]: the best by the metric among those
        that spend most of it, or the cheapest where none is within it."""
        within = self.costs <= budget
        dearest = np.where(within, self.costs, -np.inf).max(0)
        near = within & (self.costs >= dearest - BAND * budget)
        best = np.where(near, self.values, -np.inf).argmax(0)
        return np.where(within.any(0), best, self.costs.argmin(0))


class Costs:
    """The MACs of every sample by any decision, computed once for all settings: `dense` [S], of the stock model."""

    def __init__(self, predictions: Predictions, cost: Cost) -> None:
        self._lengths, self._cost = predictions.lengths.numpy(), cost
        self.dense = cost.dense_macs(self._lengths).astype(float)
        self._rungs = predictions.rung_macs(cost).astype(float)
        self._cascades: dict[bool, np.ndarray] = {}

    def spent(self, found: Predictions) -> np.ndarray:
        """Return the MACs of every sample [S] by the decision in use."""
        rungs, rows = found.rungs.numpy(), np.arange(len(self.dense))
        if found.first is None:
            return self._rungs[rows, rungs]
        return self._cascade(found.routed)[found.first.numpy(), rows, rungs]

    def _cascade(self, routed: bool) -> np.ndarray:
        """Return the MACs from each first rung to each last [W, S, W]."""
        if routed not in self._cascades:
            assert isinstance(self._cost, CostModel)
            found = [self._cost.cascade_macs(self._lengths, first, routed) for first in range(self._rungs.shape[1])]
            self._cascades[routed] = np.stack(found).astype(float)
        return self._cascades[routed]


class Setting:
    """A setting of a rule on labelled predictions: `metric`, as a function of counts; `spent` and `dense`, MACs [S]."""

    def __init__(self, point: SweptPoint, predictions: Predictions, metric: str, costs: Costs) -> None:
        found = predictions.decided(point.decision)
        self.threshold = point.threshold
        self.metric = resampled_metric(metric, found.routed_logits(), found.labels)
        self.spent, self.dense = costs.spent(found), costs.dense


@dataclass(frozen=True)
class Reading:
    """A rule at a budget on each set of samples: `values`, `costs` as fractions of dense, and the `thresholds` that
    were chosen, NaN where a setting has not one; [T] each."""

    values: np.ndarray
    costs: np.ndarray
    thresholds: np.ndarray

    @property
    def threshold(self) -> float | None:
        """The median of the thresholds, None if a setting has not one."""
        found = float(np.median(self.thresholds))
        return None if np.isnan(found) else found


class HalvedRule:
    """A rule whose settings are chosen on one half of the samples and read on the other, each way."""

    def __init__(self, settings: Sequence[Setting], halves: Halves) -> None:
        self._tables = (Table.of(settings, halves.first), Table.of(settings, halves.second))
        thresholds = [np.nan if each.threshold is None else each.threshold for each in settings]
        self._thresholds = np.array(thresholds, dtype=float)

    def read(self, budget: float) -> Reading:
        """Return the rule at a budget, the mean of both ways for each pair of halves."""
        sets = np.arange(self._tables[0].values.shape[1])
        values, costs, thresholds = [], [], []
        for choosing, reading in (self._tables, self._tables[::-1]):
            chosen = choosing.choose(budget)
            values.append(reading.values[chosen, sets])
            costs.append(reading.costs[chosen, sets])
            thresholds.append(self._thresholds[chosen])
        return Reading(np.mean(values, 0), np.mean(costs, 0), np.concatenate(thresholds))
