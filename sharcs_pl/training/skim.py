"""The objective of token skimming: the task, and to keep few tokens (Transkimmer, arXiv 2205.07324, section 3.4)."""

from __future__ import annotations

from typing import Any

from sharcs_pl.data.sampler import MicroBatch
from sharcs_pl.models.router import task_loss
from sharcs_pl.training.objective import BatchLosses, ObjectiveConfig
from sharcs_pl.training.rules import Progress


def skim_losses(model: Any, batch: MicroBatch, config: ObjectiveConfig, progress: Progress) -> BatchLosses:
    """Return the task loss plus ``skim_weight`` times the share of tokens run, averaged over layers (equation 6)."""
    logits, shares = model.soft(**batch.inputs)
    task = task_loss(logits, batch.labels, logits.shape[-1], reduction="none") + config.skim_weight * shares
    return BatchLosses.of(task.sum(), logits, batch, config)
