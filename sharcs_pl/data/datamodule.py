"""The LightningDataModule: history -> memberships -> epoch plan -> loader, a new one each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sharcs_pl.core.hardness import HardnessBuffer
from sharcs_pl.core.plan import EpochPlan, PlanConfig, make_plan
from sharcs_pl.core.ranks import all_ranks
from sharcs_pl.data.sampler import EvalBatch, PlanLoader, eval_loader, feeding
from sharcs_pl.data.table import TokenTable


class SharcsDataModule(L.LightningDataModule):
    """Width-bucketed training steps and length-sorted validation batches of one task.

    Args:
        train: tokenised training split.
        validation: tokenised validation splits by name, the main one first.
        plan: the settings that divide an epoch into steps.
        bounds: one ``(lo, hi)`` of the hardness score per rung; None always trains every sample on the top rung.
        window: number of last epochs whose scores decide the memberships.
        warmup_epochs: epochs on the top rung before routing starts; never fewer than ``window``.
        seed: seed of the plan.
        eval_batch_size: samples per validation batch.
        steps_per_epoch: least number of steps of each epoch, to match another run (one rung only).
        num_workers: processes that make batches; None for a few where the trainer has a GPU, else none.
    """

    def __init__(
        self,
        train: TokenTable,
        validation: dict[str, TokenTable],
        plan: PlanConfig,
        bounds: Sequence[tuple[float, float]] | None = None,
        window: int = 1,
        warmup_epochs: int = 0,
        seed: int = 1,
        eval_batch_size: int = 64,
        steps_per_epoch: Sequence[int] = (),
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.train_table = train
        self.validation_tables = validation
        self.plan_config = plan
        self.bounds = bounds
        self.warmup_epochs = warmup_epochs
        self.seed = seed
        self.eval_batch_size = eval_batch_size
        self.steps_per_epoch = tuple(steps_per_epoch)
        self.num_workers = num_workers
        self.history = HardnessBuffer(len(train), window)

    @property
    def rank(self) -> int:
        """The rank of this process."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world(self) -> int:
        """The number of processes."""
        return self.trainer.world_size if self.trainer else 1

    def plan(self) -> EpochPlan:
        """Return the plan of the epoch being recorded. Repeated calls return the same plan."""
        epoch = self.history.num_epochs
        bounds = None if epoch < self.warmup_epochs else self.bounds
        memberships = None if bounds is None else self.history.memberships(bounds)
        steps = self.steps_per_epoch[epoch] if epoch < len(self.steps_per_epoch) else 0
        config = replace(self.plan_config, min_steps=steps)
        return make_plan(memberships, self.train_table.lengths, config, seed=self.seed, epoch=epoch)

    def train_dataloader(self) -> PlanLoader:
        return PlanLoader(self.train_table, self.plan(), self.rank, self.world, **self._feeding())

    def val_dataloader(self) -> list[DataLoader[EvalBatch]]:
        tables, feeding = self.validation_tables.values(), self._feeding()
        return [eval_loader(table, self.eval_batch_size, self.rank, self.world, **feeding) for table in tables]

    def _feeding(self) -> dict[str, Any]:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return feeding(device, self.num_workers)

    def test_dataloader(self) -> list[DataLoader[EvalBatch]]:
        return self.val_dataloader()

    def predict_dataloader(self) -> list[DataLoader[EvalBatch]]:
        return self.val_dataloader()

    def record(self, uids: Tensor, scores: Tensor, rungs: Tensor, step: int) -> None:
        """Record the scores [B] of a training step by uid. A repeated sample keeps its first score."""
        self.history.record(uids, scores, rungs, step)

    def merge_ranks(self) -> None:
        """Merge the scores of this epoch from all processes on every process. This is a collective."""
        if self.world > 1:
            self.history.merge(all_ranks(self.history.recorded()))

    def close_epoch(self) -> dict[str, np.ndarray]:
        """End the epoch being recorded and return its (uid, score, rung) columns. This is a collective."""
        self.merge_ranks()
        table = self.history.epoch_table()
        self.history.close_epoch()
        return table

    def state_dict(self) -> dict[str, Any]:
        self.merge_ranks()  # every process takes part in a checkpoint, one of them writes it
        return {"history": self.history.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history.load_state_dict(state_dict["history"])
