"""Pools in which samples wait behind the trunk until their rung has a full batch.

Dimensions: `B` samples of a group, `T` their real tokens, `D` hidden, `W` rungs, `C` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sharcs_pl.core.arrays import library_of
from sharcs_pl.inference.batches import real_tokens


@dataclass(frozen=True)
class Group:
    """Samples that wait for the tail of one rung: `index` int64 [B], `hidden` [T, D] (the trunk's output at their
    tokens, packed, NumPy's or torch's), `lengths` int64 [B], `router_logits` float32 [B, W], `first` int64 [B] (the
    rung that each began at) and `seen` float32 [B, W, C] (the logits of the rungs that it ran on, elsewhere 0; W is 0
    where all stop)."""

    rung: int
    index: np.ndarray
    hidden: Any
    lengths: np.ndarray
    router_logits: np.ndarray
    first: np.ndarray
    seen: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, start: int, end: int) -> Group:
        """Return the group's samples from `start` to `end`."""
        ends = [0, *self.lengths.cumsum().tolist()]
        return self._of(lambda x: x[start:end], self.hidden[ends[start] : ends[end]])

    def select(self, rows: np.ndarray) -> Group:
        """Return the samples `rows`, int64 [n]."""
        if len(rows) == len(self):
            return self
        return self._of(lambda x: x[rows], self.hidden[real_tokens(self.lengths, rows)])

    def owning(self) -> Group:
        """Return the group with a hidden state of its own; a slice would keep that of the whole batch alive, or be
        overwritten with it."""
        if isinstance(self.hidden, np.ndarray):
            return replace(self, hidden=self.hidden.copy()) if self.hidden.base is not None else self
        whole = self.hidden.untyped_storage().nbytes() == self.hidden.nbytes
        return self if whole else replace(self, hidden=self.hidden.clone())

    def _of(self, turn: Callable[[np.ndarray], np.ndarray], hidden: Any) -> Group:
        return Group(self.rung, **{name: hidden if name == "hidden" else turn(getattr(self, name)) for name in COLUMNS})


COLUMNS = tuple(field.name for field in fields(Group) if field.name != "rung")


def join(groups: Sequence[Group]) -> Group:
    """Return the samples of several groups of one rung as one group."""
    if len(groups) == 1:
        return groups[0]
    columns = {name: [getattr(group, name) for group in groups] for name in COLUMNS}
    return Group(groups[0].rung, **{name: library_of(parts[0]).concatenate(parts) for name, parts in columns.items()})


class RungPool:
    """A pool where at most `size` - 1 samples of one rung wait; `size` of them make a group that runs.

    A group that fills the pool at once passes through without a copy.
    """

    def __init__(self, rung: int, size: int) -> None:
        self.rung = rung
        self.size = size
        self._parts: list[Group] = []

    @property
    def waiting(self) -> int:
        """The number of samples that wait."""
        return sum(map(len, self._parts))

    @property
    def oldest(self) -> int:
        """The smallest index that waits."""
        return min(int(part.index.min()) for part in self._parts)

    def add(self, group: Group) -> Iterator[Group]:
        """Put samples in; yield each full group that they complete."""
        start = 0
        while start < len(group):
            end = min(len(group), start + self.size - self.waiting)
            self._parts.append(group.rows(start, end))
            start = end
            if self.waiting == self.size:
                yield self.take()
        self._parts = [part.owning() for part in self._parts]

    def take(self) -> Group:
        """Return all that waits, as one group; the pool is empty then."""
        parts, self._parts = self._parts, []
        return join(parts)
