"""The time that one text takes on each rung, on this machine.

Legend: `S` samples, `W` rungs, `K` lengths that are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from rich.table import Table

from sharcs_pl.core.screen import new_table

WARM_UP = 2  # passes of each kind that are not timed


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one text at batch size 1: `median`, and the quartiles `low` and `high`, each [W, K]; `lengths`
    [K] are in tokens, ascending."""

    lengths: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    repeats: int

    def of(self, lengths: np.ndarray) -> np.ndarray:
        """Return the milliseconds of samples of `lengths` [S] on every rung [S, W], linear between the medians."""
        return np.stack([np.interp(lengths, self.lengths, row) for row in self.median], 1)


def timed_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return a few lengths that represent a split's: the least, the greatest and quantiles between them."""
    return np.unique(np.quantile(lengths, (0, 0.25, 0.5, 0.75, 0.95, 1), method="nearest").astype(int))


def measure_latency(
    run: Callable[[int, int], Any],
    num_rungs: int,
    lengths: Sequence[int] | np.ndarray,
    repeats: int = 21,
    seed: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time `run(rung, length)`: one text of `length` tokens at batch size 1 on a rung, answered when it returns.

    Every round runs each rung at each of `lengths` (ascending) once, in an order drawn anew, so that a machine that
    slows down for a while slows all of them. `clock` counts seconds.
    """
    kinds = list(product(range(num_rungs), range(len(lengths))))
    for _, (rung, place) in product(range(WARM_UP), kinds):
        run(rung, int(lengths[place]))
    taken = np.zeros((repeats, num_rungs, len(lengths)))
    rng = np.random.default_rng(seed)
    for row in taken:
        for number in rng.permutation(len(kinds)):
            rung, place = kinds[number]
            start = clock()
            run(rung, int(lengths[place]))
            row[rung, place] = 1000 * (clock() - start)
    low, median, high = np.quantile(taken, (0.25, 0.5, 0.75), axis=0)
    return Latency(np.asarray(lengths), median, low, high, repeats)


def latency_table(latency: Latency, widths: Sequence[str]) -> Table:
    """Return a rich table of the medians and quartiles."""
    title = f"milliseconds per text at batch size 1: median and quartiles of {latency.repeats} interleaved passes"
    table = new_table(title, ("tokens", *(f"width {width}" for width in widths)))
    for place, length in enumerate(latency.lengths.tolist()):
        spread = zip(latency.median[:, place], latency.low[:, place], latency.high[:, place], strict=True)
        table.add_row(str(length), *(f"{m:.2f} ({a:.2f}-{b:.2f})" for m, a, b in spread))
    return table
