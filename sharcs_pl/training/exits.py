"""Objectives of early exits, one function per paper, from every exit's losses to their sum over the batch.

Sums of exits are divided by the sum of their weights, so that the learning rate means what it means for one exit; Adam
does not see the difference. Legend: `B` batch, `E` exits, `C` labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharcs_pl.core.kinds import kind_of_labels
from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.training.objective import BatchLosses, ObjectiveConfig, summed_loss
from sharcs_pl.training.rules import Idle, Losses, Progress, StepContents


@dataclass(frozen=True)
class ExitBatch:
    """A batch at every exit: `losses` [E], each a sum over samples; `logits` [B, E, C]; `certainty` [B, E] or None;
    `labels` [B] or [B, C]; and `layers`, the depth of each exit."""

    losses: Tensor
    logits: Tensor
    certainty: Tensor | None
    labels: Tensor
    layers: tuple[int, ...]


Objective = Callable[[ExitBatch, Progress], Tensor]


def weighted(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of `losses` [E] weighted by `weights` [E]."""
    return (losses * weights.to(losses, non_blocking=True)).sum() / weights.sum()


def equal(batch: ExitBatch, progress: Progress) -> Tensor:
    """Weigh every exit alike, as BranchyNet (Teerapittayanon et al., ICPR 2016, arXiv 1709.01686, equation 1)."""
    return batch.losses.mean() + certainty_loss(batch)


def ramped(batch: ExitBatch, progress: Progress) -> Tensor:
    """Weigh the last exit by 1 and each one before it by a weight that rises over the epochs from 0.01 to its share of
    the cost, here of the layers (Shallow-Deep Networks, Kaya et al., ICML 2019, arXiv 1810.07052, section 4.1)."""
    share = torch.tensor([layer / batch.layers[-1] for layer in batch.layers])
    weights = 0.01 + (share - 0.01) * progress.epoch / progress.max_epochs
    weights[-1] = 1.0
    return weighted(batch.losses, weights) + certainty_loss(batch)


def by_depth(batch: ExitBatch, progress: Progress) -> Tensor:
    """Weigh the j-th exit by j, as PABEE (Zhou et al., NeurIPS 2020, arXiv 2006.04152, equation 3)."""
    return weighted(batch.losses, torch.arange(1, len(batch.losses) + 1)) + certainty_loss(batch)


def two_stage(batch: ExitBatch, progress: Progress) -> Tensor:
    """Train the encoder by its last exit, then the other exits on the frozen encoder (DeeBERT, Xin et al., ACL 2020,
    arXiv 2004.12993, section 3.2)."""
    if progress.first_stage:
        return batch.losses[-1]
    others = batch.losses[:-1]
    return (others.mean() if len(others) else batch.losses.sum() * 0) + certainty_loss(batch)


def self_distilled(batch: ExitBatch, progress: Progress) -> Tensor:
    """Train the encoder by its last exit, then the other exits on its answers, without labels: by KL(student ||
    teacher), in regression by squared error (FastBERT, Liu et al., ACL 2020, arXiv 2004.02178, section 3.4)."""
    if progress.first_stage:
        return batch.losses[-1]
    student, teacher = batch.logits[:, :-1].float(), batch.logits[:, -1:].detach().float()
    if not student.shape[1]:
        return batch.losses.sum() * 0
    # The paper's divergence is KL(student || teacher), where Hinton's is KL(teacher || student). `divergence` computes
    # the latter, so the two change places here.
    each = kind_of_labels(batch.labels, student.shape[-1]).divergence(teacher.expand_as(student), student)
    return each.sum((0, 2)).mean() + certainty_loss(batch)


def alternating(batch: ExitBatch, progress: Progress) -> Tensor:
    """Alternate steps of the last exit alone with steps of all exits (BERxiT, Xin et al., EACL 2021, section 3.2)."""
    return batch.losses[-1] if progress.step % 2 == 0 else batch.losses.mean() + certainty_loss(batch)


OBJECTIVES = {
    "equal": equal,
    "ramped": ramped,
    "by_depth": by_depth,
    "two_stage": two_stage,
    "self_distilled": self_distilled,
    "alternating": alternating,
}


def certainty_loss(batch: ExitBatch) -> Tensor:
    """Return the squared error of each certainty to its target: 1 for a right answer, else 0, the share of right labels
    where there are several, or 1 - tanh |error| in regression (BERxiT, section 3.3). The loss is 0 where no certainty
    is learned."""
    if batch.certainty is None or len(batch.losses) == 1:
        return batch.losses.new_zeros(())
    answers = batch.logits[:, :-1].detach().float()
    truth = kind_of_labels(batch.labels, answers.shape[-1]).closeness(answers, batch.labels)
    return (batch.certainty[:, :-1].float().sigmoid() - truth).square().mean(1).sum()


def exit_losses(objective: Objective) -> Losses:
    """Return the losses of a batch under an objective; in a second stage the exits send no gradient to the encoder."""

    def losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
        detach = progress.stage_epochs > 0
        logits, certainty = model.exits(**batch.inputs, detach=detach)
        each = [summed_loss(x, batch) for x in logits.unbind(1)]
        found = ExitBatch(torch.stack(each), logits, certainty, batch.labels, model.ladder.layers)
        return BatchLosses.of(objective(found, progress), logits[:, -1], batch, config)

    return losses


def exits_idle(objective: Objective) -> Idle:
    """Return the function that lists the parameters a step does not train: the encoder in a second stage, and the exits
    before the last in a first stage and in BERxiT's steps of the last one alone."""

    def idle(model: Any, step: StepContents, config: ObjectiveConfig, progress: Progress) -> list[nn.Parameter]:
        if progress.stage_epochs and not progress.first_stage:
            return list(model.stock_parameters())
        last_alone = progress.first_stage or (objective is alternating and progress.step % 2 == 0)
        return model.new_parameters() if last_alone else []

    return idle
