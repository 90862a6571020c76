"""The budget dial: the router's thresholds for a mean cost, by a search over what every rung would do.

Rung i takes a sample when its score i, the largest router logit of the rungs up to i, reaches threshold i and no
narrower rung took it (`core.cascade.choose_rungs`). So a threshold matters only by which samples it lets through, and
the thresholds between two neighbouring scores are one choice. For two rungs every choice is looked at. For more, the
thresholds are searched jointly on a grid of their quantiles, by cumulative sums over all samples at once.

Legend: `S` samples, `W` rungs, `G` levels of a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharcs_pl.core.decision import NEVER

if TYPE_CHECKING:
    from sharcs_pl.evaluation.predictions import Predictions

CELLS = 1 << 16  # combinations of levels that a joint search looks at
BAND = 0.01  # of the reachable range: costs this close below the budget's are taken as equal by a joint search
SHORTLIST = 64  # combinations whose metric is computed

RoutingMetric = Callable[[np.ndarray], float]  # rungs int [S] -> value


@dataclass(frozen=True)
class Outcomes:
    """The outcome of every rung on every sample.

    `scores` float32 [S, W-1] are the largest router logits up to each rung; `costs` [S, W] have any unit; `quality` [S,
    W] is 1 for a right answer and 0 for a wrong one, the share of labels that are right where there are several, or
    minus the squared error of a regression.
    """

    scores: np.ndarray
    costs: np.ndarray
    quality: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions, costs: np.ndarray) -> Outcomes:
        """Return the outcomes of the predictions; `costs` [S, W]."""
        quality = predictions.kind.quality(predictions.scores.numpy(), predictions.labels.numpy())
        return cls(scores_of(predictions.router_logits.numpy()), costs, quality)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def num_rungs(self) -> int:
        """The number of rungs W."""
        return self.costs.shape[1]

    @property
    def errors(self) -> np.ndarray:
        """Errors of each rung where the top one is right, 0 or 1 [S, W]: a classifier's loss whose mean is the risk."""
        return ((self.quality[:, -1:] >= 1) & (self.quality < 1)).astype(float)

    def select(self, rows: np.ndarray) -> Outcomes:
        """Return the outcomes of some samples."""
        return Outcomes(self.scores[rows], self.costs[rows], self.quality[rows])

    def rungs(self, thresholds: np.ndarray) -> np.ndarray:
        """Return the rung of each sample, int [S], for `thresholds` [W-1]."""
        reached = self.scores >= thresholds
        return np.where(reached.any(1), reached.argmax(1), self.num_rungs - 1)

    def at(self, values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Return the entries of `values` [S, W] at the rungs that the samples go to, [S]."""
        return values[np.arange(len(self)), self.rungs(thresholds)]


def scores_of(router_logits: np.ndarray) -> np.ndarray:
    """Return the scores [S, W-1] of router logits [S, W]."""
    return np.maximum.accumulate(router_logits[:, :-1].astype(np.float32), axis=1)


@dataclass(frozen=True)
class Grid:
    """A grid of thresholds: `levels`, for each rung but the top ascending float32 [G], the first let all through and
    the last nobody; `codes` int [S, W-1], the highest level that each score reaches."""

    levels: tuple[np.ndarray, ...]
    codes: np.ndarray

    @classmethod
    def over(cls, scores: np.ndarray) -> Grid:
        """Return every choice there is for two rungs; for more, as many quantiles as `CELLS` allows."""
        narrow = scores.shape[1]
        most = None if narrow == 1 else math.floor(CELLS ** (1 / narrow) + 1e-9)
        levels = tuple(_levels(column, most) for column in scores.T)
        codes = [np.searchsorted(level, column, "right") - 1 for level, column in zip(levels, scores.T, strict=True)]
        return cls(levels, np.stack(codes, 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of levels G of each threshold."""
        return tuple(map(len, self.levels))

    def thresholds(self, cells: np.ndarray) -> np.ndarray:
        """Return the thresholds [P, W-1] of flat indices of combinations [P]."""
        places = np.unravel_index(cells, self.shape)
        return np.stack([level[place] for level, place in zip(self.levels, places, strict=True)], -1)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over samples of `values` [S, W] at the rung each would go to, for every combination, flat.

        A sample is on rung i where levels 0 to i-1 are above its codes and level i is not: histograms over the codes,
        summed up along each axis from the side that holds.
        """
        found = np.zeros(self.shape)
        narrow = len(self.shape)
        for rung in range(narrow + 1):
            shape = self.shape[: rung + 1]
            places = np.ravel_multi_index(tuple(self.codes[:, : rung + 1].T), shape)
            part = np.bincount(places, values[:, rung], math.prod(shape)).reshape(shape)
            for axis in range(rung):
                part = _refused(part, axis)
            part = _accepted(part, rung) if rung < narrow else part
            found += part.reshape(shape + (1,) * (narrow - len(shape)))
        return found.ravel()


def _levels(scores: np.ndarray, most: int | None) -> np.ndarray:
    """Return thresholds half-way between neighbouring scores, so that another batch's rounding moves no sample."""
    seen = np.unique(scores)
    below, above = seen[:-1], seen[1:]
    between = (below / 2 + above / 2).astype(np.float32)
    between = np.where(between <= below, above, between)  # neighbours in float32 have nothing between them
    if most is not None and len(between) > most - 2:
        between = between[np.linspace(0, len(between) - 1, most - 2).round().astype(int)]
    return np.concatenate([[-NEVER], between, [NEVER]]).astype(np.float32)


def _accepted(counts: np.ndarray, axis: int) -> np.ndarray:
    """Return the sums over the codes at or above each level."""
    return np.flip(np.flip(counts, axis).cumsum(axis), axis)


def _refused(counts: np.ndarray, axis: int) -> np.ndarray:
    """Return the sums over the codes below each level."""
    return counts.cumsum(axis) - counts


@dataclass(frozen=True)
class Dial:
    """A table of every combination of thresholds on a set of samples: mean cost and mean quality, both flat."""

    outcomes: Outcomes
    grid: Grid
    costs: np.ndarray
    quality: np.ndarray

    @classmethod
    def of(cls, outcomes: Outcomes) -> Dial:
        """Evaluate every combination on the outcomes."""
        grid, size = Grid.over(outcomes.scores), len(outcomes)
        return cls(outcomes, grid, grid.totals(outcomes.costs) / size, grid.totals(outcomes.quality) / size)

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the greatest mean cost."""
        return float(self.costs.min()), float(self.costs.max())

    def spend(self, budget: float, metric: RoutingMetric, key: str = "budget") -> tuple[float, ...]:
        """Return the thresholds [W-1] that make the most of a mean cost of `budget`.

        Two rungs get the threshold whose cost is the closest below it. More get, of the combinations that come as close
        as `BAND`, the best by `metric` among the `SHORTLIST` of best mean quality. Raise `ValueError` with `key` and
        the reach.
        """
        band = 0.0 if self.outcomes.num_rungs == 2 else BAND
        best = best_within(self.costs, self.quality, budget, band, key)
        thresholds = self.grid.thresholds(best)
        values = [metric(self.outcomes.rungs(row)) for row in thresholds] if len(best) > 1 else [0.0]
        return tuple(thresholds[int(np.argmax(values))].tolist())


def best_within(costs: np.ndarray, quality: np.ndarray, budget: float, band: float, key: str) -> np.ndarray:
    """Return the `SHORTLIST` of best mean `quality` [P] among the settings whose mean `costs` [P] come as close below a
    `budget` as `band`, a share of the reachable range. Raise `ValueError` with `key` and the reach where none is below.
    """
    least, most = float(costs.min()), float(costs.max())
    within = np.flatnonzero(costs <= budget)
    if not len(within):
        reach = f"on these texts this model goes from {_up(least)} to {_up(most)}"
        raise ValueError(f"{key}={budget:g} is out of reach: {reach}")
    near = within[costs[within] >= costs[within].max() - band * (most - least)]
    return near[np.lexsort((costs[near], -quality[near]))][:SHORTLIST]


def _up(value: float) -> str:
    """Return three digits, rounded up so that the figure shown can be had."""
    scale = 10 ** (3 - math.ceil(math.log10(value)))
    return f"{math.ceil(value * scale) / scale:g}"
