"""Training of every width on every batch, with or without a teacher (design legend: B, W, C).

Slimmable Neural Networks (Yu et al., ICLR 2019, arXiv 1812.08928) add up the losses of all widths on each batch;
DynaBERT (Hou et al., NeurIPS 2020, arXiv 2004.04037, section 2.2) teaches the widths of a transformer by a fine-tuned
model. With one width it is plain knowledge distillation (Hinton et al. 2015).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.training.objective import BatchLosses, ObjectiveConfig, distill_losses, summed_loss
from sharcs_pl.training.rules import Losses, Progress


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
        state = model.trunk(**batch.inputs)
        logits = [model.tail(state, rung) for rung in range(len(model.ladder))]
        weights = config.rung_weights or (1.0,) * len(logits)
        each = [summed_loss(x, batch) for x in logits]
        task = torch.stack([weight * loss for weight, loss in zip(weights, each, strict=True)]).mean()
        students = logits if teacher else logits[:-1]
        distill = None
        if config.distill_weight and students:
            teacher_logits = teacher(batch.inputs) if teacher else logits[-1]
            given = teacher_logits, config.temperature, model.kind.multi_label
            losses = [distill_losses(student, *given).sum() for student in students]
            distill = torch.stack(losses).mean()
        return BatchLosses.of(task, logits[-1], batch, config, distill)

    return losses
