"""What a method adds to a training step: the losses of a batch, and which parameters rest (design legend: B, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.training.objective import BatchLosses, ObjectiveConfig, batch_losses


@dataclass(frozen=True)
class Progress:
    """Where training is: the epoch and the step in it, counted from 0, of ``max_epochs`` epochs; the first
    ``stage_epochs`` are the first of two stages."""

    epoch: int = 0
    step: int = 0
    max_epochs: int = 1
    stage_epochs: int = 0

    @property
    def first_stage(self) -> bool:
        """Whether the first of two stages lasts."""
        return self.epoch < self.stage_epochs


Losses = Callable[[Any, MicroBatch, ObjectiveConfig, Progress], BatchLosses]
"""Model, batch, weights and progress to the sums over the batch's samples."""


def _nothing(model: Any, progress: Progress) -> list[nn.Parameter]:
    return []


def routed_losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
    """SHARCS: the batch on its own rung, and the router, weighed as the rung is."""
    found = batch_losses(model, batch, config)
    if config.rung_weights is None:
        return found
    weight = config.rung_weights[batch.rung]
    return replace(found, task=weight * found.task, router=weight * found.router, distill=weight * found.distill)


@dataclass(frozen=True)
class TrainingRule:
    """``losses`` of a batch; ``frozen`` parameters of a step, which its update leaves as they are."""

    losses: Losses = routed_losses
    frozen: Callable[[Any, Progress], list[nn.Parameter]] = _nothing
    stage_epochs: int = 0
