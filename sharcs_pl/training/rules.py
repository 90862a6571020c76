"""Training rules: the losses that a method adds to a step, and the parameters it does not train (design legend: B, W,
C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.training.objective import BatchLosses, ObjectiveConfig, batch_losses


@dataclass(frozen=True)
class Progress:
    """A position in training: the epoch and the step in it, counted from 0, of ``max_epochs`` epochs, of which the
    first ``stage_epochs`` are the first of two stages."""

    epoch: int = 0
    step: int = 0
    max_epochs: int = 1
    stage_epochs: int = 0

    @property
    def first_stage(self) -> bool:
        """True during the first of two stages."""
        return self.epoch < self.stage_epochs


Losses = Callable[[Any, MicroBatch, ObjectiveConfig, Progress], BatchLosses]
"""Model, batch, weights and progress to the sums over the batch's samples."""


@dataclass(frozen=True)
class StepContents:
    """The contents of an optimizer step, or of one process's part of it: the `rungs` that have a batch, none in a part
    without one, and `routed`, which tells if samples have memberships for the router to learn."""

    rungs: frozenset[int]
    routed: bool


Idle = Callable[[Any, StepContents, ObjectiveConfig, Progress], list[nn.Parameter]]
"""Model, contents of the step, weights and progress to the parameters that the step's losses do not depend on."""


def none_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """Return no parameter, since every batch trains all of them."""
    return []


def routed_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """Return the tails of widths without a batch, and the router while it has nothing to learn. Where narrow widths
    learn from the full one, every batch trains them all."""
    students = model.ladder.narrow if config.distill_weight else ()
    return model.idle_parameters({*step.rungs, *students}, step.routed or config.warmup_loss)


def every_width_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """Return the parameters that no width uses and the router; every batch trains all widths."""
    return model.idle_parameters(range(len(model.ladder)), False)


def routed_losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
    """Return the losses of SHARCS: the batch on its own rung, and the router, weighed as the rung is."""
    found = batch_losses(model, batch, config)
    if config.rung_weights is None:
        return found
    weight = config.rung_weights[batch.rung]
    return replace(found, task=weight * found.task, router=weight * found.router, distill=weight * found.distill)


@dataclass(frozen=True)
class TrainingRule:
    """The ``losses`` of a batch, and the ``idle`` parameters of a step, which its update leaves as they are."""

    losses: Losses = routed_losses
    idle: Idle = routed_idle
    stage_epochs: int = 0
