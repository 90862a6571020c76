"""What a method adds to a training step: the losses of a batch, and which parameters it does not train (design legend:
B, W, C)."""

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


@dataclass(frozen=True)
class StepContents:
    """What an optimizer step, or one process's part of it, trains: `rungs` with a batch, none in a part without one;
    `routed`: whether samples have memberships for the router to learn."""

    rungs: frozenset[int]
    routed: bool


Idle = Callable[[Any, StepContents, ObjectiveConfig, Progress], list[nn.Parameter]]
"""Model, contents of the step, weights and progress to the parameters that the step's losses do not depend on."""


def none_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """No parameter: every batch trains all of them."""
    return []


def routed_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """The tails of widths without a batch, and the router while it has nothing to learn. Where narrow widths learn from
    the full one, every batch trains them all."""
    students = model.ladder.narrow if config.distill_weight else ()
    return model.idle_parameters({*step.rungs, *students}, step.routed or config.warmup_loss)


def every_width_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """What no width uses: every batch trains all widths, and no router."""
    return model.idle_parameters(range(len(model.ladder)), False)


def routed_losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
    """SHARCS: the batch on its own rung, and the router, weighed as the rung is."""
    found = batch_losses(model, batch, config)
    if config.rung_weights is None:
        return found
    weight = config.rung_weights[batch.rung]
    return replace(found, task=weight * found.task, router=weight * found.router, distill=weight * found.distill)


@dataclass(frozen=True)
class TrainingRule:
    """``losses`` of a batch; ``idle`` parameters of a step, which its update leaves as they are."""

    losses: Losses = routed_losses
    idle: Idle = routed_idle
    stage_epochs: int = 0
