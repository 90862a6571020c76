"""The epoch plan, which assigns samples to optimizer steps and ranks (SHARCS, arXiv 2310.12126).

A plan is a pure function of (memberships, token lengths, seed, epoch, config). It lists the epoch's optimizer steps.
A step has slots, and a slot holds at most one batch of one rung. The number of processes only assigns slots to ranks.
A plan stores one flat array of sample indices per bucket, never a list of batches.

Legend: `S` samples, `W` rungs, `K` batches of a bucket. A *bucket* is the training samples of a rung.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

FILLS = ("repeat", "none")

# Samples are sorted by length within so many batches, enough to group them and few enough to vary batches by epoch.
_MEGA_BATCHES = 50


@dataclass(frozen=True)
class PlanConfig:
    """The settings that divide an epoch into steps.

    `batch_size`: samples per slot and step, over all processes. `batches_per_step`: slots of a step, at least
    `num_rungs`; 0 stands for `num_rungs`. `fill`: "repeat" repeats small buckets up to the size of the largest, each
    sample at most `repeat_cap` times; "none" repeats nothing. `min_steps`: least steps of an epoch, reached by
    repeating beyond the cap; for one rung only. `every_rung`: every batch trains all rungs, so that all samples are in
    one bucket, the top rung's, and memberships only label the router. Raise `ValueError` naming the key of an invalid
    value.
    """

    batch_size: int
    num_rungs: int
    batches_per_step: int = 0
    fill: str = "repeat"
    repeat_cap: int = 4
    min_steps: int = 0
    every_rung: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches_per_step", self.batches_per_step or self.num_rungs)
        assert self.num_rungs >= 1, "a plan needs a rung"
        if self.batch_size < 1:
            raise ValueError(f"batch_size: {self.batch_size} is below 1")
        if self.fill not in FILLS:
            raise ValueError(f"hardness.fill: {self.fill!r} is none of {', '.join(FILLS)}")
        if self.repeat_cap < 1:
            raise ValueError(f"hardness.repeat_cap: {self.repeat_cap} is below 1 (1 repeats nothing)")
        if self.batches_per_step < self.num_rungs:
            raise ValueError(f"batches_per_step: {self.batches_per_step} is below the {self.num_rungs} rungs")
        if self.min_steps and (self.min_steps < 0 or self.num_rungs > 1):
            raise ValueError(f"min_steps: {self.min_steps} for {self.num_rungs} rungs; it fits one rung, 0 or more")


@dataclass(frozen=True, eq=False)
class PlannedBatch:
    """A batch of a step, or one rank's shard of it.

    `indices`: the samples on this rank, int [n]; a shard may be empty. `count`: samples of the whole batch over all
    ranks, above 0. `num_batches`: batches of the step over all ranks. `shard`: index of this rank among the ranks that
    share the slot.
    """

    slot: int
    rung: int
    shard: int
    indices: np.ndarray
    count: int
    num_batches: int


@dataclass(frozen=True, eq=False)
class Bucket:
    """The samples of a rung, repeated, grouped by length and cut into batches.

    `slots`: the slots of every step that belong to the bucket. `order`: sample indices [n], int32 or int64. `begins`:
    start of each batch in `order`, [K], in running order. Batch b runs in step b // len(slots).
    """

    rung: int
    slots: tuple[int, ...]
    order: np.ndarray
    begins: np.ndarray
    batch_size: int

    @property
    def num_steps(self) -> int:
        return math.ceil(len(self.begins) / len(self.slots))

    def at(self, step: int) -> list[tuple[int, np.ndarray]]:
        """Return (slot, sample indices) of each batch in a step, an empty list once the bucket is exhausted."""
        begins = self.begins[step * len(self.slots) : (step + 1) * len(self.slots)]
        return [(slot, self.order[b : b + self.batch_size]) for slot, b in zip(self.slots, begins, strict=False)]

    def token_slots(self, lengths: np.ndarray) -> int:
        starts = np.sort(self.begins)
        counts = np.diff(starts, append=len(self.order))
        longest = np.maximum.reduceat(lengths[self.order], starts)
        return int((counts * longest).sum())


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The optimizer steps of an epoch, equal on every rank and for every number of processes.

    `bucket_sizes`: distinct samples per rung, int64 [W]. `rungs`: the rung drawn for each sample, int8 [S]. Both tell
    of the router's labels alone where every batch trains all rungs: a sample counts for the narrowest of its rungs.
    `memberships`: targets of the router, bool [S, W], or None while everything runs on the top rung.
    """

    epoch: int
    num_steps: int
    bucket_sizes: np.ndarray
    rungs: np.ndarray
    memberships: np.ndarray | None
    buckets: tuple[Bucket, ...]
    batches_per_step: int
    one_bucket: bool = False

    def step(self, s: int) -> list[PlannedBatch]:
        """Return the whole batches of a step in order of slot, without empty slots."""
        assert 0 <= s < self.num_steps, f"step {s} of {self.num_steps}"
        held = [(slot, bucket.rung, found) for bucket in self.buckets for slot, found in bucket.at(s)]
        held.sort(key=lambda batch: batch[0])
        return [PlannedBatch(slot, rung, 0, found, len(found), len(held)) for slot, rung, found in held]

    def local(self, s: int, rank: int, world: int) -> list[PlannedBatch]:
        """Return a rank's share of a step. Together the ranks run exactly the step.

        With fewer ranks than slots, a rank has a contiguous run of slots. With more, `world / slots` ranks share a
        slot, and shard j has the samples j, j + world / slots, ... Where all samples are in one bucket and the numbers
        do not fit each other, all ranks share every slot. Raise `ValueError` if `check_world` does.
        """
        assert 0 <= rank < world, f"rank {rank} of {world}"
        if self.one_bucket and not fits(world, self.batches_per_step):
            return [_shard(batch, rank, world) for batch in self.step(s)]
        check_world(world, self.batches_per_step)
        run, sharers = max(1, self.batches_per_step // world), max(1, world // self.batches_per_step)
        first, shard = rank // sharers * run, rank % sharers
        mine = [batch for batch in self.step(s) if first <= batch.slot < first + run]
        return [_shard(batch, shard, sharers) for batch in mine]

    def bucket_weights(self) -> np.ndarray:
        """Return each rung's samples per slot divided by the mean over slots, float64 [W]; equal slots give 1."""
        slots = np.ones(len(self.bucket_sizes))
        for bucket in self.buckets:
            slots[bucket.rung] = len(bucket.slots)
        return self.bucket_sizes / slots * self.batches_per_step / max(1, self.bucket_sizes.sum())

    def digest(self) -> str:
        """Return a hash of the whole plan, to compare ranks and resumed runs."""
        arrays = [self.rungs] if self.memberships is None else [self.rungs, self.memberships]
        names: list[object] = [self.epoch, self.num_steps, self.batches_per_step, self.memberships is None]
        for bucket in self.buckets:
            names.append((bucket.rung, bucket.slots, bucket.batch_size))
            arrays += [bucket.order, bucket.begins]
        names += [(array.shape, array.dtype.str) for array in arrays]
        state = hashlib.blake2b(repr(names).encode(), digest_size=16)
        for array in arrays:
            state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()

    def token_slots(self, lengths: np.ndarray) -> int:
        """Return the tokens computed in the epoch with padding: the sum over batches of samples times longest length.

        `lengths`: tokens per sample, int [S].
        """
        return sum(bucket.token_slots(lengths) for bucket in self.buckets)


def make_plan(
    memberships: np.ndarray | None, lengths: np.ndarray, config: PlanConfig, *, seed: int, epoch: int
) -> EpochPlan:
    """Plan an epoch. The function is pure: equal arguments give equal plans in any process, and are not modified.

    `memberships`: bool [S, W], at least one rung per sample, or None for all on the top rung (the first epochs).
    `lengths`: tokens per sample, int [S]. `seed` and `epoch`: at least 0. A member of several rungs is drawn for one.
    """
    rungs = _draw_rungs(memberships, len(lengths), config.num_rungs, np.random.default_rng([seed, epoch, 0]))
    trained = rungs
    if config.every_rung:
        trained = np.full_like(rungs, config.num_rungs - 1)
        rungs = rungs if memberships is None else memberships.argmax(1).astype(np.int8)
    sizes = _count(trained, config.num_rungs)
    slots = _assign_slots(sizes, config)
    buckets = []
    for rung, target in enumerate(_targets(sizes, slots, config)):
        if target:
            generator = np.random.default_rng([seed, epoch, 1 + rung])
            order = _order(np.flatnonzero(trained == rung), target, lengths, config.batch_size, generator)
            begins = generator.permutation(np.arange(0, target, config.batch_size))
            buckets.append(Bucket(rung, slots[rung], order, begins, config.batch_size))
    steps = max((bucket.num_steps for bucket in buckets), default=0)
    held = np.array(_count(rungs, config.num_rungs))
    one = config.every_rung or config.num_rungs == 1
    return EpochPlan(epoch, steps, held, rungs, memberships, tuple(buckets), config.batches_per_step, one)


def _count(rungs: np.ndarray, num_rungs: int) -> list[int]:
    return [int(np.count_nonzero(rungs == rung)) for rung in range(num_rungs)]


def fits(world: int, batches_per_step: int) -> bool:
    """Return True if `world` processes divide the slots of a step, or are a multiple of them."""
    return not (batches_per_step % world and world % batches_per_step)


def check_world(world: int, batches_per_step: int) -> None:
    """Raise `ValueError` naming `trainer.devices` unless `world` divides the number of slots or is a multiple of it."""
    if world < 1 or not fits(world, batches_per_step):
        divisors = [str(size) for size in range(1, batches_per_step + 1) if batches_per_step % size == 0]
        raise ValueError(
            f"trainer.devices: {world} processes cannot share the {batches_per_step} batches of a step evenly; "
            f"what fits: {', '.join(divisors)}, or a multiple of {batches_per_step}"
        )


def _draw_rungs(
    memberships: np.ndarray | None, samples: int, num_rungs: int, generator: np.random.Generator
) -> np.ndarray:
    if memberships is None:
        return np.full(samples, num_rungs - 1, dtype=np.int8)
    assert memberships.shape == (samples, num_rungs), f"memberships {memberships.shape}, not {(samples, num_rungs)}"
    assert memberships.dtype == np.bool_, f"memberships are {memberships.dtype}, not bool"
    counts = memberships.sum(axis=1, dtype=np.int8)
    assert counts.all(), "a sample is a member of no rung"
    # A loop over rungs needs a tenth of the memory of one [S, W] table of ranks at ten million samples.
    chosen = (generator.random(samples, dtype=np.float32) * counts).astype(np.int8)
    rungs, passed = np.zeros(samples, dtype=np.int8), np.zeros(samples, dtype=np.int8)
    for rung in range(num_rungs):
        rungs[memberships[:, rung] & (passed == chosen)] = rung
        passed += memberships[:, rung]
    return rungs


def _assign_slots(sizes: Sequence[int], config: PlanConfig) -> list[tuple[int, ...]]:
    # The top rung takes what no narrow bucket fills, so that a step keeps its number of samples.
    narrow = [(rung,) if sizes[rung] else () for rung in range(config.num_rungs - 1)]
    taken = {slot for own in narrow for slot in own}
    return [*narrow, tuple(slot for slot in range(config.batches_per_step) if slot not in taken)]


def _targets(sizes: Sequence[int], slots: Sequence[tuple[int, ...]], config: PlanConfig) -> list[int]:
    """Return the samples of each bucket after repeating it to the longest bucket's samples per slot, or to its cap."""
    held = [(size, len(own)) for size, own in zip(sizes, slots, strict=True)]
    if config.fill == "none":
        return [_at_least(size, width * config.batch_size, config.min_steps) for size, width in held]
    longest = max((Fraction(size, width) for size, width in held if size), default=Fraction(0))
    filled = [min(math.ceil(longest * width), config.repeat_cap * size) for size, width in held]
    return [
        _at_least(f, width * config.batch_size, config.min_steps) for f, (_, width) in zip(filled, held, strict=True)
    ]


def _at_least(target: int, per_step: int, min_steps: int) -> int:
    if not target or math.ceil(target / per_step) >= min_steps:
        return target
    return min_steps * per_step


def _order(
    samples: np.ndarray, target: int, lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> np.ndarray:
    index = np.int32 if len(lengths) <= np.iinfo(np.int32).max else np.int64
    order = _repeat(samples.astype(index), target, generator)
    _group_by_length(order, lengths, len(samples), _MEGA_BATCHES * batch_size)
    return order


def _repeat(samples: np.ndarray, target: int, generator: np.random.Generator) -> np.ndarray:
    """Return whole shuffled copies and a part of one more, so that counts of samples differ by at most one."""
    copies = [generator.permutation(samples) for _ in range(math.ceil(target / len(samples)))]
    return np.concatenate(copies)[:target]


def _group_by_length(order: np.ndarray, lengths: np.ndarray, copy: int, mega: int) -> None:
    """Sort by length within each mega-batch, in place, but never across two copies of the bucket.

    Sorting across copies would put all copies of a sample of a small bucket into one batch.
    """
    total = len(order)
    edges = np.unique(np.concatenate([np.arange(0, total, copy), np.arange(0, total, mega), [total]]))
    for begin, end in itertools.pairwise(edges):
        part = order[begin:end]
        part[:] = part[np.argsort(lengths[part], kind="stable")]


def _shard(batch: PlannedBatch, shard: int, sharers: int) -> PlannedBatch:
    indices = batch.indices[shard::sharers]
    return PlannedBatch(batch.slot, batch.rung, shard, indices, batch.count, batch.num_batches)
