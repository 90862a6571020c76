"""The answers of every rung to a set of samples, with what each decision on them costs and is worth.

Legend: `S` samples, `W` rungs, `C` classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from sharcs_pl.analysis.calibration.budget import Outcomes
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.flops import CostModel
from sharcs_pl.data.spec import TaskSpec
from sharcs_pl.evaluation.halving import Costs
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.decision import decide


@dataclass(frozen=True)
class Views:
    """One set of samples as the tables need it. `outcomes` holds costs as fractions of the mean dense one; `latency`
    [S, W, W] is in milliseconds, where it was measured, from the first rung to the last that a sample runs on."""

    predictions: Predictions
    outcomes: Outcomes
    task: TaskSpec
    cost: CostModel
    seed: int
    latency: np.ndarray | None = None

    @classmethod
    def of(cls, predictions: Predictions, task: TaskSpec, cost: CostModel, seed: int) -> Views:
        """Return the views of every rung's logits on the split."""
        lengths = predictions.lengths.numpy()
        fractions = cost.rung_macs(lengths) / cost.dense_macs(lengths).mean()
        return cls(predictions, Outcomes.of(predictions, fractions), task, cost, seed)

    def select(self, rows: np.ndarray) -> Views:
        """Return the views of some samples; costs become fractions of their own mean dense one."""
        at = torch.from_numpy(rows)
        return Views.of(self.predictions.select(at), self.task, self.cost, self.seed).timed(
            None if self.latency is None else self.latency[rows]
        )

    def timed(self, latency: np.ndarray | None) -> Views:
        """Return the views with latencies."""
        return replace(self, latency=latency)

    @property
    def by_latency(self) -> Outcomes:
        """Return the outcomes with milliseconds as costs."""
        assert self.latency is not None
        return replace(self.outcomes, costs=self.latency.diagonal(axis1=1, axis2=2))

    def metric(self, rungs: np.ndarray) -> float:
        """Return the task's first metric where the samples go to `rungs` int [S]."""
        found = self.predictions
        return compute_metric(self.task.metric, found.at(torch.from_numpy(rungs)), found.labels)

    def fractions(self, found: Predictions) -> np.ndarray:
        """Return the costs of these samples by a decision, as fractions of the mean dense one, [S]."""
        return self._costs.spent(found) / self._costs.dense.mean()

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.predictions, self.cost)

    def split(self, count: int, seed: int) -> tuple[Views, Views]:
        """Return the views of `count` samples drawn by `seed`, and of the others, both in the samples' order."""
        order = np.random.default_rng(seed).permutation(len(self.outcomes))
        return self.select(np.sort(order[:count])), self.select(np.sort(order[count:]))

    def milliseconds(self, found: Predictions) -> np.ndarray:
        """Return the latency of decided samples [S]."""
        assert self.latency is not None
        rungs = found.rungs.numpy()
        first = rungs if found.first is None else found.first.numpy()
        return self.latency[np.arange(len(rungs)), first, rungs]

    def quality(self, found: Predictions) -> np.ndarray:
        """Return 1 for a right answer of a decided sample and 0 for a wrong one, or minus a regression's squared error,
        [S]."""
        return self.task.kind.quality(found.routed_logits().numpy(), found.labels.numpy())


def decided(views: Views, rule: DecisionRule) -> Predictions:
    """Return the predictions as `rule` decides them."""
    found = views.predictions
    return found.decided(decide(rule, found.logits, found.router_logits if views.cost.has_router else None))
