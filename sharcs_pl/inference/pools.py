"""Pools in which samples wait behind the trunk until their rung has a full batch.

Dimensions: `B` samples of a group, `T` their real tokens, `D` hidden, `W` rungs, `C` labels; an index `i` stands for
rung i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sharcs_pl.inference.layout import real_tokens


@dataclass(frozen=True)
class Group:
    """Samples that wait for the tail of one rung: `index` [B] long, `hidden` [T, D] (the trunk's output at their
    tokens, packed; [T, D_i], cut to the rung, where all samples stop there), `lengths` [B] long, `router_logits`
    [B, W], `first` [B] long (the rung that each began at) and `seen` [B, W, C] float32 (the logits of the rungs that it
    ran on, elsewhere 0; W is 0 where all stop). All but `hidden` are on the CPU."""

    rung: int
    index: Tensor
    hidden: Tensor
    lengths: Tensor
    router_logits: Tensor
    first: Tensor
    seen: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, start: int, end: int) -> Group:
        """Return the group's samples from `start` to `end`."""
        ends = [0, *self.lengths.cumsum(0).tolist()]
        return self._of(lambda x: x[start:end], self.hidden[ends[start] : ends[end]])

    def select(self, rows: Tensor) -> Group:
        """Return the samples `rows`, [n] long."""
        if len(rows) == len(self):
            return self
        tokens = real_tokens(self.lengths, rows).to(self.hidden.device)
        return self._of(lambda x: x[rows], self.hidden[tokens])

    def owning(self) -> Group:
        """Return the group with a hidden state of its own; a slice would keep that of the whole batch alive."""
        whole = self.hidden.untyped_storage().nbytes() == self.hidden.nbytes
        return self if whole else replace(self, hidden=self.hidden.clone())

    def _of(self, turn: Callable[[Tensor], Tensor], hidden: Tensor) -> Group:
        return Group(self.rung, **{name: hidden if name == "hidden" else turn(getattr(self, name)) for name in COLUMNS})


COLUMNS = tuple(field.name for field in fields(Group) if field.name != "rung")


def join(groups: Sequence[Group]) -> Group:
    """Return the samples of several groups of one rung as one group."""
    if len(groups) == 1:
        return groups[0]
    return Group(groups[0].rung, **{name: torch.cat([getattr(x, name) for x in groups]) for name in COLUMNS})


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
