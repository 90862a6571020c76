"""Time measured side by side: variants take turns round by round, and only ratios within a round are compared."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.engine import Engine

Call = Callable[[Batch], np.ndarray | Tensor]
"""A batch to its logits [B, C]."""


@dataclass(frozen=True)
class Pass:
    """One pass over a workload: `seconds` in all, and the `latencies` (seconds) of its calls, or of its samples where
    they wait for each other."""

    seconds: float
    latencies: np.ndarray


@dataclass(frozen=True)
class Variant:
    """A function `run` over a whole workload. `macs_fraction` is its multiply-adds over the stock model's on the same
    texts; `value` is the task's metric where labels are known. `base` names the variant whose multiply-adds are saved,
    None for the first one. `kind` is "dense", "routed", or "width" where all samples run at one."""

    name: str
    run: Callable[[], Pass]
    macs_fraction: float
    value: float | None = None
    base: str | None = None
    kind: str = "width"


@dataclass(frozen=True)
class Timed:
    """The times of a variant over all rounds, and its speed beside the first one's, and its base's, in the same
    round."""

    variant: Variant
    samples: int
    seconds: list[float]
    latencies: np.ndarray
    speedups: list[float]
    over_base: list[float]

    @property
    def throughput(self) -> float:
        """The median number of samples per second."""
        return self.samples / statistics.median(self.seconds)

    @property
    def speedup(self) -> float:
        """The median speed-up over the rounds."""
        return statistics.median(self.speedups)

    @property
    def promised(self) -> float:
        """The speed-up over its base that multiply-adds promise."""
        return 1 / self.variant.macs_fraction

    @property
    def efficiency(self) -> float:
        """Measured speed-up over its base, over the promised one."""
        return statistics.median(self.over_base) * self.variant.macs_fraction

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the rounds' efficiencies."""
        low, high = np.quantile(self.over_base, (0.25, 0.75)) * self.variant.macs_fraction
        return float(low), float(high)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies, in seconds."""
        return float(np.percentile(self.latencies, percent))


def race(
    variants: Sequence[Variant],
    samples: int,
    repeats: int,
    warmup: int,
    seed: int,
    tick: Callable[[], object] = lambda: None,
) -> list[Timed]:
    """Run every variant once a round, in an order drawn anew for each; speed-ups refer to the first one. `tick` is
    called after each pass."""
    order, draws = list(range(len(variants))), random.Random(seed)
    rounds: list[list[Pass]] = [[] for _ in variants]
    for number in range(warmup + repeats):
        draws.shuffle(order)
        for index in order:
            done = variants[index].run()
            tick()
            if number >= warmup:
                rounds[index].append(done)
    seconds = [[done.seconds for done in each] for each in rounds]
    places = {variant.name: place for place, variant in enumerate(variants)}
    bases = [0 if variant.base is None else places[variant.base] for variant in variants]
    return [
        Timed(
            variant,
            samples,
            own,
            np.concatenate([done.latencies for done in each]),
            [reference / spent for reference, spent in zip(seconds[0], own, strict=True)],
            [reference / spent for reference, spent in zip(seconds[base], own, strict=True)],
        )
        for variant, each, own, base in zip(variants, rounds, seconds, bases, strict=True)
    ]


class Clock:
    """A clock of the seconds since its start, by CUDA events if there are any, since kernels run behind the program."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._start: Any = self._mark()

    def seconds(self) -> float:
        """Return the seconds until now; waits for the device."""
        end = self._mark()
        if not self._cuda:
            return end - self._start
        end.synchronize()
        return self._start.elapsed_time(end) / 1000

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def batch_pass(batches: Sequence[Batch], call: Call, device: torch.device) -> Pass:
    """Time batches one after the other; the latency of a batch is its own time."""
    whole, latencies = Clock(device), []
    for batch in batches:
        clock = Clock(device)
        call(batch)
        latencies.append(clock.seconds())
    return Pass(whole.seconds(), np.array(latencies))


def stream_pass(
    batches: Sequence[Batch],
    engine: Engine,
    pool_size: int,
    device: torch.device,
    rungs: Sequence[np.ndarray] | None = None,
) -> tuple[Pass, list[Answers]]:
    """Time batches through pools; the latency of a sample is the time from its batch's start to its answer."""
    run, clock = engine.pooled(pool_size), Clock(device)
    started: dict[int, float] = {}
    latencies: list[float] = []
    found: list[Answers] = []

    def note(answers: list[Answers]) -> None:
        now = clock.seconds() if answers else 0.0
        latencies.extend(now - started[index] for each in answers for index in each.index.tolist())
        found.extend(answers)

    for number, batch in enumerate(batches):
        started |= dict.fromkeys(batch.index.tolist(), clock.seconds())
        note(run.add(batch, None if rungs is None else rungs[number]))
    note(run.flush())
    return Pass(clock.seconds(), np.array(latencies)), found
