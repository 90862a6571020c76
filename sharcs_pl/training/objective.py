"""The objective of one batch of a step: task, router and distillation loss (design legend: B, W, C)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sharcs_pl.core.hardness import sample_scores
from sharcs_pl.core.kinds import task_kind
from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.models.routed import SharcsForSequenceClassification, TrunkState
from sharcs_pl.models.router import router_loss, task_loss


@dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the losses.

    Attributes:
        score: hardness score, ``confidence`` or ``entropy``.
        label_range: width of the label's range for regression, else None.
        router_weight: weight of the router loss (paper equation 1).
        warmup_loss: router loss also while no memberships exist, every sample labelled top (the reference).
        rung_weights: weight of each rung's batch, [W].
        weight_by_bucket: multiply by the bucket's size over the mean bucket size.
        distill_weight: weight of learning the top rung's logits, 0 for none.
        temperature: softmax temperature of the distillation.
        skim_weight: weight of the share of tokens that run, where tokens are skimmed.
    """

    score: str = "confidence"
    label_range: float | None = None
    router_weight: float = 1.0
    warmup_loss: bool = False
    rung_weights: tuple[float, ...] | None = None
    weight_by_bucket: bool = False
    distill_weight: float = 0.0
    temperature: float = 1.0
    skim_weight: float = 0.0


@dataclass(frozen=True)
class BatchLosses:
    """The losses of one batch, as sums over its samples (scalars, except ``scores`` [B])."""

    task: Tensor
    router: Tensor
    distill: Tensor
    scores: Tensor

    @classmethod
    def of(
        cls, task: Tensor, logits: Tensor, batch: MicroBatch, config: ObjectiveConfig, distill: Tensor | None = None
    ) -> BatchLosses:
        """Return the losses of a batch without a router, with the scores of `logits` [B, C]."""
        none = task.new_zeros(())
        return cls(task, none, none if distill is None else distill, scores_of(logits, batch, config))


def scores_of(logits: Tensor, batch: MicroBatch, config: ObjectiveConfig) -> Tensor:
    """Return the hardness scores of a batch [B] from `logits` [B, C]."""
    return sample_scores(logits.detach(), batch.labels, config.score, config.label_range)


def summed_loss(logits: Tensor, batch: MicroBatch) -> Tensor:
    """Return the task loss of `logits` [B, C], summed over the batch."""
    return task_loss(logits, batch.labels, logits.shape[-1], reduction="none").sum()


def distill_losses(student: Tensor, teacher: Tensor, temperature: float, multi_label: bool = False) -> Tensor:
    """Return KL(teacher || student) per sample [B] at ``temperature``, times its square (Hinton et al. 2015), in
    regression the squared difference; with `multi_label` the mean over labels, each with two outcomes. The teacher
    [B, C] gets no gradient."""
    return task_kind(student.shape[-1], multi_label).distilled(student, teacher.detach(), temperature)


def batch_losses(model: SharcsForSequenceClassification, batch: MicroBatch, config: ObjectiveConfig) -> BatchLosses:
    """Run the batch on its rung and sum its losses."""
    state = model.trunk(**batch.inputs, draw=True)
    logits = model.tail(state, batch.rung)
    task = summed_loss(logits, batch)
    if state.counts is not None:
        task = task + config.skim_weight * share_of_tokens(state.counts, model.shape.num_layers).sum()
    router = router_losses(state, batch, config, len(model.ladder))
    distill = _distill_loss(model, state, logits, batch.rung, config) if config.distill_weight else task.new_zeros(())
    return BatchLosses(task, router, distill, scores_of(logits, batch, config))


def share_of_tokens(counts: Tensor, num_layers: int) -> Tensor:
    """Return the share of each sample's tokens that run [B], averaged over layers (Transkimmer, arXiv 2205.07324,
    equation 6). In ``counts``, as in ``TrunkState``, the tail's tokens count once for each of its layers."""
    came, trunk, tail = counts[:, 0], counts[:, 1:-1], counts[:, -1]
    ran = trunk.sum(1) + (num_layers - trunk.shape[1]) * tail
    return ran / (num_layers * came.clamp(min=1))


def router_losses(state: TrunkState, batch: MicroBatch, config: ObjectiveConfig, num_rungs: int) -> Tensor:
    """Return the router's loss summed over the batch, 0 while its samples have no memberships."""
    memberships = batch.memberships
    if memberships is None and config.warmup_loss:
        top = torch.full_like(batch.uids, num_rungs - 1)
        memberships = F.one_hot(top, num_rungs).float()
    if memberships is None or state.router_logits is None:
        return state.hidden.new_zeros((), dtype=torch.float32)
    return router_loss(state.router_logits, memberships, reduction="none").sum()


def _distill_loss(
    model: SharcsForSequenceClassification, state: TrunkState, logits: Tensor, rung: int, config: ObjectiveConfig
) -> Tensor:
    """Return the loss of every narrow rung against the top one, averaged over narrow rungs; only tails run again."""
    top = model.ladder.top
    if rung == top:
        teacher = logits
    else:
        with torch.no_grad():
            teacher = model.tail(state, top)
    students = [logits if i == rung else model.tail(state, i) for i in range(top)]
    several = model.kind.multi_label
    losses = [distill_losses(student, teacher, config.temperature, several).sum() for student in students]
    return torch.stack(losses).mean()
