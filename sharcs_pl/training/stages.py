"""Training in two stages: the full width is fine-tuned, and then teaches all widths while it stays as it was.

The teacher of the second stage is the full width at the first one's end, frozen (DynaBERT, Hou et al., NeurIPS 2020,
arXiv 2004.04037, section 2.2). It need not run again: without dropout a text has one answer, which is kept.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sharcs_pl.core.arrays import at_least_float32
from sharcs_pl.core.ranks import all_ranks
from sharcs_pl.data.sampler import eval_loader
from sharcs_pl.data.table import TokenTable
from sharcs_pl.training.checkpoints import epoch_is_whole, save_together

FIRST_STAGE = "first_stage.ckpt"


class RewindToBest(Callback):
    """Callback that goes on from the best of the first ``stage_epochs`` epochs, by ``monitor``, at the end of the last
    of them: weights and optimizer are those of that epoch, the earliest of equally good ones.

    Among the callbacks it stands before those that change or save the weights of an epoch's end. The best so far is
    kept beside the other checkpoints.
    """

    def __init__(self, folder: Path, stage_epochs: int, monitor: str) -> None:
        self.path = folder / FIRST_STAGE
        self.stage_epochs = stage_epochs
        self.monitor = monitor
        self.score: float | None = None
        self.best_epoch: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # In another folder than the checkpoint's there is nothing to go back to but what comes.
        if not trainer.strategy.broadcast(self.path.exists()):
            self.score = self.best_epoch = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        found = trainer.callback_metrics.get(self.monitor)
        if found is None or not epoch_is_whole(trainer) or trainer.current_epoch >= self.stage_epochs:
            return
        score = -math.inf if math.isnan(found) else float(found)
        if trainer.strategy.reduce_boolean_decision(self.score is None or score > self.score):
            self.score, self.best_epoch = score, trainer.current_epoch
            save_together(trainer, self.path)
        if trainer.current_epoch + 1 == self.stage_epochs and self.best_epoch != trainer.current_epoch:
            written = trainer.strategy.broadcast(str(self.path))  # by the first process, in its own directory
            kept = trainer.strategy.load_checkpoint(written, weights_only=True)
            pl_module.load_state_dict(kept["state_dict"])
            trainer.strategy.load_optimizer_state_dict(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.best_epoch = state_dict["score"], state_dict["best_epoch"]


class FrozenTeacher(Callback):
    """Callback that keeps the full width's logits [S, C] of all training texts, in evaluation mode, at the end of the
    first ``stage_epochs`` epochs, and gives each later batch those of its samples (`MicroBatch.teacher`).

    The logits are in every later checkpoint. Among the callbacks it stands behind those that change the weights of an
    epoch's end, and before those that save.
    """

    def __init__(self, stage_epochs: int, table: TokenTable, batch_size: int) -> None:
        self.stage_epochs = stage_epochs
        self.table = table
        self.batch_size = batch_size
        self.logits: Tensor | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.logits is not None:
            self.logits = self.logits.to(pl_module.device)
            for micro in batch.batches:
                micro.teacher = self.logits[micro.uids]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if epoch_is_whole(trainer) and trainer.current_epoch + 1 == self.stage_epochs:
            self.logits = self._answers(trainer, pl_module)

    @torch.no_grad()
    def _answers(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Tensor:
        model: Any = pl_module.model
        own: list[tuple[Tensor, Tensor]] = []
        model.eval()
        with trainer.precision_plugin.forward_context():
            for batch in eval_loader(self.table, self.batch_size, trainer.global_rank, trainer.world_size):
                if len(batch.uids):
                    moved = batch.to(pl_module.device)
                    logits = model.tail(model.trunk(**moved.inputs), model.ladder.top)
                    own.append((batch.uids, at_least_float32(logits).cpu()))
        model.train()
        parts = [part for rank in all_ranks(own) for part in rank]
        found = torch.cat([logits for _, logits in parts])
        return torch.empty_like(found).index_copy_(0, torch.cat([uids for uids, _ in parts]), found)

    def state_dict(self) -> dict[str, Any]:
        return {"logits": None if self.logits is None else self.logits.cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.logits = state_dict["logits"]
