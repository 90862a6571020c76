"""The module of a tiny model on a small table, and steps and batches for it."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sharcs_pl.core.plan import EpochPlan, PlanConfig, make_plan
from sharcs_pl.data.sampler import MicroBatch, StepBatch, StepDataset
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.training.module import OptimizerSettings, SharcsModule
from sharcs_pl.training.objective import ObjectiveConfig
from tests.conftest import random_table, tiny_model

TABLE = random_table(20)


class Waits(TorchDispatchMode):
    """Collects the copies to another device that a program would wait for. With "meta" as that device, whatever reads a
    value from it, or depends on one, is an error by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and found.device != args[0].device:
            self.copies += [] if (kwargs or {}).get("non_blocking") else [args[0]]
        return found


def module_of(objective: ObjectiveConfig | None = None, **changes: Any) -> SharcsModule:
    module = SharcsModule(tiny_model(), GLUE["sst2"], objective, OptimizerSettings(lr=1e-2, **changes), seed=3)
    module.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    return module.train()


def routed_plan() -> EpochPlan:
    rng = torch.arange(20) % 3
    members = torch.stack([rng != 2, rng != 0], 1).numpy()
    return make_plan(members, TABLE.lengths, PlanConfig(batch_size=4, num_rungs=2), seed=1, epoch=1)


def routed_step(step: int = 0, rank: int = 0, world: int = 1) -> StepBatch:
    return StepDataset(TABLE, routed_plan(), rank, world)[step]


def micro_batch(rung: int = 0, memberships: torch.Tensor | None = None) -> MicroBatch:
    table = random_table(6)
    inputs = table.collate(range(6))
    labels = inputs.pop("labels")
    return MicroBatch(
        inputs, labels, memberships, torch.arange(6), rung=rung, slot=rung, shard=0, count=6, num_batches=1,
        bucket_weight=1.0,
    )  # fmt: skip
