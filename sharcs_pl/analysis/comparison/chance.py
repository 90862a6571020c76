"""Chance as a cause of a difference between methods, by the paired bootstrap over all their seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.analysis.comparison.runs import RunResult, SavedAnswers
from sharcs_pl.evaluation.bootstrap import Statistic, bootstrap, resampled_metric
from sharcs_pl.evaluation.metrics import compute_metric


@dataclass(frozen=True)
class Versus:
    """The difference to another method, with the middle 95 % of a paired bootstrap; `interval` is None where the runs
    were evaluated on different texts, which cannot be paired."""

    name: str
    difference: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Chance:
    """The bootstrap of one task's runs. Each draw gives all seeds of both methods the same samples, and takes the
    difference of the two means over seeds."""

    runs: Sequence[RunResult]
    draws: int
    seed: int

    @cached_property
    def _classes(self) -> tuple[str, ...] | None:
        """Return the classes by id, as the runs say them or in order; None for a regression."""
        said = next((run.classes for run in self.runs if run.classes), None)
        answers = [run.answers for run in self.runs if run.answers]
        if self.runs[0].metric in ("pearson", "spearman"):
            return None
        texts = [text for each in answers for text in (*each.labels, *each.predictions)]
        seen = {name for text in texts for name in json.loads(text)} if self._several else set(texts)
        return said if said and seen <= set(said) else tuple(sorted(seen))

    def constant(self, run: RunResult) -> float | None:
        """Return the metric of the best constant answer to the run's texts, or to another run's where it does not keep
        them; None where no run keeps its answers."""
        answers = run.answers or next((run.answers for run in self.runs if run.answers), None)
        if answers is None:
            return None
        if self._classes is None:
            return 0.0  # a constant correlates with nothing
        labels = self._labels(answers)
        each = torch.eye(len(self._classes))
        if self._several:  # none of the labels, one of them, or all
            each = torch.cat([each, torch.zeros_like(each[:1]), torch.ones_like(each[:1])]) * 2 - 1
        metric = self.runs[0].metric
        return max(compute_metric(metric, row.expand(len(labels), -1), labels) for row in each)

    def versus(self, name: str, ours: Sequence[RunResult], others: Sequence[RunResult]) -> Versus | None:
        """Return `ours` minus `others`, who are called `name`; None where a run of either keeps no answers."""
        sides = [[run.answers for run in runs] for runs in (ours, others)]
        if any(answers is None for side in sides for answers in side):
            return None
        if len({answers.samples for side in sides for answers in side if answers}) > 1:
            means = [fmean(run.routed.value for run in runs) for runs in (ours, others)]
            return Versus(name, means[0] - means[1], None)
        left, right = ([self._statistic(a) for a in side if a is not None] for side in sides)
        size = len(next(a for a in sides[0] if a is not None).labels)
        found = bootstrap(lambda counts: _mean(left, counts) - _mean(right, counts), size, self.draws, self.seed)
        return Versus(name, found.difference, (found.low, found.high))

    def _statistic(self, answers: SavedAnswers) -> Statistic:
        return resampled_metric(self.runs[0].metric, self._logits(answers), self._labels(answers))

    def _labels(self, answers: SavedAnswers) -> Tensor:
        if self._classes is None:
            return torch.tensor([float(text) for text in answers.labels])
        if self._several:
            return self._marks(answers.labels)
        return torch.tensor([self._classes.index(text) for text in answers.labels])

    @property
    def _several(self) -> bool:
        """True if answers are lists of labels."""
        return self.runs[0].several

    def _marks(self, texts: Sequence[str]) -> Tensor:
        """Return 1 for each label in lists of names, else 0, [S, C]."""
        found = [set(json.loads(text)) for text in texts]
        return torch.tensor([[float(name in names) for name in self._classes or ()] for names in found])

    def _logits(self, answers: SavedAnswers) -> Tensor:
        """Return logits [S, C] with 1 at the answer, of several labels -1 at the others; [S, 1] for a regression."""
        if self._classes is None:
            return torch.tensor([[float(text)] for text in answers.predictions])
        if self._several:
            return self._marks(answers.predictions) * 2 - 1
        chosen = torch.tensor([self._classes.index(text) for text in answers.predictions])
        return torch.nn.functional.one_hot(chosen, len(self._classes)).float()


def _mean(statistics: Sequence[Statistic], counts: np.ndarray) -> np.ndarray:
    return np.mean([statistic(counts) for statistic in statistics], axis=0)
