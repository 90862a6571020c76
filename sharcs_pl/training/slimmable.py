"""Training of every width on every batch, with or without a teacher or a router (design legend: B, W, C).

Slimmable Neural Networks (Yu et al., ICLR 2019, arXiv 1812.08928) add up the losses of all widths on each batch;
DynaBERT (Hou et al., NeurIPS 2020, arXiv 2004.04037, section 2.2) teaches the widths of a transformer by a fine-tuned
model. With one width it is plain knowledge distillation (Hinton et al. 2015). With a
router and more than three widths a step trains the widest, the narrowest and one drawn between them (the sandwich rule,
Yu and Huang, ICCV 2019, arXiv 1903.05134).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.training.objective import (
    BatchLosses,
    ObjectiveConfig,
    distill_losses,
    router_losses,
    scores_of,
    summed_loss,
)
from sharcs_pl.training.rules import Losses, Progress, StepContents

_MOST_TRAINED = 3  # widths of a step


class Teacher:
    """A fine-tuned model whose logits are learned. It is no part of the student: neither trained nor saved with it."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits [B, C] of a batch, on the batch's device."""
        device = inputs["input_ids"].device
        if self.model.device != device:
            self.model.to(device)
        return self.model(**inputs).logits


def slimmable_losses(teacher: Teacher | None) -> Losses:
    """Return the mean over all widths of their losses on the batch. With a teacher every width learns its logits too;
    else, where ``distill_weight`` is not 0, each narrow width learns the top one's logits."""

    def losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
        rungs = range(len(model.ladder))
        logits = _answers(model, model.trunk(**batch.inputs), rungs)
        task = _mean_task_loss(logits, batch, config)
        students = [logits[rung] for rung in (rungs if teacher else rungs[:-1])]
        distill = None
        if config.distill_weight and students:
            teacher_logits = teacher(batch.inputs) if teacher else logits[rungs[-1]]
            distill = _mean_distill_loss(students, teacher_logits, config, model.kind.multi_label)
        return BatchLosses.of(task, logits[rungs[-1]], batch, config, distill)

    return losses


def joint_losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
    """Return the losses of a routed model that trains every width on every batch.

    The epochs before routing train the full width alone. Then the router learns the memberships, and the narrow widths
    learn the labels and, where ``distill_weight`` is not 0, the full width's logits. Where the batch brings logits of a
    teacher, all widths learn them, and no labels. Hardness scores are those of the narrowest width that ran, since the
    router is to know which samples it can do.
    """
    rungs, state = joint_rungs(progress, len(model.ladder)), model.trunk(**batch.inputs)
    logits = _answers(model, state, rungs)
    router = router_losses(state, batch, config, len(model.ladder))
    several, scores = model.kind.multi_label, scores_of(logits[min(rungs)], batch, config)
    if batch.teacher is not None:
        given = batch.teacher, config.temperature, several
        learned = _weighted_mean({rung: distill_losses(x, *given).sum() for rung, x in logits.items()}, config)
        return BatchLosses(learned.new_zeros(()), router, learned, scores)
    task = _mean_task_loss(logits, batch, config)
    distill = task.new_zeros(())
    if config.distill_weight and len(rungs) > 1:
        students = [logits[rung] for rung in rungs[:-1]]
        distill = _mean_distill_loss(students, logits[rungs[-1]], config, several)
    return BatchLosses(task, router, distill, scores)


def joint_idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
    """Return the tails of widths that `joint_losses` does not train in the step, and the router while it has nothing to
    learn."""
    rungs = joint_rungs(progress, len(model.ladder)) if step.rungs else ()
    return model.idle_parameters(rungs, step.routed or config.warmup_loss)


def joint_rungs(progress: Progress, num_rungs: int) -> tuple[int, ...]:
    """Return the rungs that a step trains, narrow first; they are equal in all processes."""
    top = num_rungs - 1
    if progress.first_stage:
        return (top,)
    if num_rungs <= _MOST_TRAINED:
        return tuple(range(num_rungs))
    between = np.random.default_rng([progress.epoch, progress.step]).integers(1, top)
    return (0, int(between), top)


def _answers(model: Any, state: Any, rungs: Sequence[int]) -> dict[int, Tensor]:
    return {rung: model.tail(state, rung) for rung in rungs}


def _mean_task_loss(logits: dict[int, Tensor], batch: MicroBatch, config: ObjectiveConfig) -> Tensor:
    return _weighted_mean({rung: summed_loss(x, batch) for rung, x in logits.items()}, config)


def _weighted_mean(losses: dict[int, Tensor], config: ObjectiveConfig) -> Tensor:
    weights = config.rung_weights or (1.0,) * (max(losses) + 1)
    return torch.stack([weights[rung] * loss for rung, loss in losses.items()]).mean()


def _mean_distill_loss(
    students: Sequence[Tensor], teacher: Tensor, config: ObjectiveConfig, multi_label: bool
) -> Tensor:
    given = teacher, config.temperature, multi_label
    return torch.stack([distill_losses(student, *given).sum() for student in students]).mean()
