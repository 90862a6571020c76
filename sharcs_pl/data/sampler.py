"""Loaders of tensor batches from an epoch plan, which count the delivered steps.

Dimensions: `B` batch, `L` tokens, `W` rungs, `S` samples.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sharcs_pl.core.plan import EpochPlan, PlannedBatch
from sharcs_pl.data.table import TokenTable

T = TypeVar("T")

_MOST_WORKERS = 4  # that a GPU is fed by unless the user says otherwise: a batch is a few copies


def feeding(device: torch.device, num_workers: int | None = None) -> dict[str, Any]:
    """Return the arguments of the loaders below for a device: where it is a GPU, pinned memory and, unless a number is
    given, as many processes that make batches as the cores allow, at most four. Elsewhere there are none."""
    cuda = device.type == "cuda"
    spare = len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) - 1
    chosen = min(_MOST_WORKERS, spare) if cuda else 0
    return {"num_workers": chosen if num_workers is None else num_workers, "pin_memory": cuda}


def _leave_signals(worker: int) -> None:
    """Ignore the signals that ask a run to stop: the run's process ends its workers once it has saved."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


class _Movable:
    """The moves of a batch whose fields are tensors, `inputs` a dict of them."""

    inputs: dict[str, Tensor]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        batch: Any = self
        fields = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(batch, inputs={name: change(tensor) for name, tensor in self.inputs.items()}, **fields)


# The batches are not frozen, because Lightning's precisions 64-true and bf16-true convert a copy field by field.
@dataclass(eq=False)
class MicroBatch(_Movable):
    """This rank's part of a planned batch.

    `inputs`: the inputs of the encoder, [B, L] each. `labels`: [B]. `memberships`: [B, W] float32, None while no sample
    has any. `uids`: [B] long. `count`: samples of the batch over all ranks. `num_batches`: batches of the step over all
    ranks. `bucket_weight`: samples of the bucket per slot divided by the mean over slots. `teacher`: logits [B, C] to
    learn in the place of the labels, None for the labels. `B` may be 0 (with `L == 1`) if more ranks share a batch than
    it has samples.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    memberships: Tensor | None
    uids: Tensor
    rung: int
    slot: int
    shard: int
    count: int
    num_batches: int
    bucket_weight: float = 1.0
    teacher: Tensor | None = None


@dataclass(eq=False)
class StepBatch:
    """This rank's batches in an optimizer step, possibly none.

    `rungs`: the rungs that the step trains over all ranks. `routed`: True once samples have memberships.
    """

    batches: tuple[MicroBatch, ...]
    epoch: int
    step: int
    rungs: frozenset[int] = frozenset()
    routed: bool = False

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StepBatch:
        return replace(self, batches=tuple(batch.to(device, non_blocking) for batch in self.batches))

    def pin_memory(self) -> StepBatch:
        return replace(self, batches=tuple(batch.pin_memory() for batch in self.batches))


@dataclass(eq=False)
class EvalBatch(_Movable):
    """A batch of samples to evaluate: `inputs` [B, L] each, `labels` [B], `uids` [B] long, `lengths` [B] long (tokens
    without padding), `difficulty` [B] long, None if unknown."""

    inputs: dict[str, Tensor]
    labels: Tensor
    uids: Tensor
    lengths: Tensor
    difficulty: Tensor | None


class PlanSampler(Sampler[int]):
    """A sampler of the step numbers of an epoch from `start` on. Its length counts the whole epoch."""

    def __init__(self, num_steps: int, start: int = 0) -> None:
        self.num_steps = num_steps
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.num_steps))

    def __len__(self) -> int:
        return self.num_steps


class StepDataset(Dataset[StepBatch]):
    """A dataset that maps a step number to the tensors of this rank's share of the step."""

    def __init__(self, table: TokenTable, plan: EpochPlan, rank: int = 0, world: int = 1) -> None:
        assert len(plan.rungs) == len(table), "the plan was made for another table"
        self.table = table
        self.plan = plan
        self.rank = rank
        self.world = world
        self._weights = plan.bucket_weights().tolist()

    def __len__(self) -> int:
        return self.plan.num_steps

    def __getitem__(self, step: int) -> StepBatch:
        planned = self.plan.local(step, self.rank, self.world)
        batches = tuple(self._micro(batch) for batch in planned)
        rungs = frozenset(batch.rung for batch in self.plan.step(step))
        return StepBatch(batches, self.plan.epoch, step, rungs, self.plan.memberships is not None)

    def _micro(self, batch: PlannedBatch) -> MicroBatch:
        inputs = self.table.collate(batch.indices)
        labels = inputs.pop("labels")
        uids = torch.from_numpy(batch.indices.astype(np.int64))
        members = self.plan.memberships
        memberships = None if members is None else torch.from_numpy(members[batch.indices].astype(np.float32))
        return MicroBatch(
            inputs,
            labels,
            memberships,
            uids,
            rung=batch.rung,
            slot=batch.slot,
            shard=batch.shard,
            count=batch.count,
            num_batches=batch.num_batches,
            bucket_weight=self._weights[batch.rung],
        )


class PlanLoader(DataLoader[StepBatch]):
    """A loader of one epoch of training steps for one rank, resumable at any step.

    The state counts the *delivered* steps, not the steps that workers have fetched ahead. A loaded position applies to
    the next pass only, and only if it belongs to this plan's epoch. Later passes deliver the whole epoch.
    """

    def __init__(
        self,
        table: TokenTable,
        plan: EpochPlan,
        rank: int = 0,
        world: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        dataset = StepDataset(table, plan, rank, world)
        sampler = PlanSampler(plan.num_steps)
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals,
        )
        self.plan = plan
        self._plan_sampler = sampler
        self._delivered = 0
        self._resume_at = 0

    def __iter__(self) -> Iterator[StepBatch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # A generator starts only at the first step, so that a state loaded after iter() still applies.
        start, self._resume_at = self._resume_at, 0
        self._plan_sampler.start = start
        for batch in super().__iter__():
            self._delivered = batch.step + 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.plan.epoch, "step": self._delivered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["epoch"] == self.plan.epoch:
            self._resume_at = self._delivered = int(state["step"])


class EvalDataset(Dataset[EvalBatch]):
    """A dataset of batches of samples of similar length. Every sample is in one batch of one rank."""

    def __init__(self, table: TokenTable, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.table = table
        self.lengths = table.lengths
        # The longest come first, so that memory peaks at once. Ranks take every world-th batch for similar lengths.
        order = np.argsort(-self.lengths, kind="stable")
        starts = range(rank * batch_size, len(table), world * batch_size)
        # A rank without samples gets an empty batch, because Lightning would skip its validation while others wait.
        self.batches = [order[start : start + batch_size] for start in starts] or [order[:0]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> EvalBatch:
        uids = self.batches[index]
        inputs = self.table.collate(uids)
        labels = inputs.pop("labels")
        known = self.table.difficulty
        difficulty = None if known is None else torch.from_numpy(known[uids].astype(np.int64))
        return EvalBatch(inputs, labels, torch.from_numpy(uids), torch.from_numpy(self.lengths[uids]), difficulty)


def eval_loader(
    table: TokenTable,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[EvalBatch]:
    """Return a loader of `EvalBatch` with the longest texts first. `uids` identify the samples."""
    if batch_size < 1:
        raise ValueError(f"eval_batch_size={batch_size}: at least 1 is needed")
    dataset = EvalDataset(table, batch_size, rank, world)
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals,
    )


def _as_it_is(batch: T) -> T:
    return batch
