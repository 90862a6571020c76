"""Pools in which samples wait behind the trunk until their rung has a full batch.

Dimensions: `B` samples of a group, `T` their real tokens, `D` hidden, `W` rungs; an index `i` stands for rung i.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Samples of one rung between trunk and tail: `index` [B] long, `hidden` [T, D_i] (their tokens, packed),
    `lengths` [B] long, `router_logits` [B, W]; all but `hidden` on the CPU."""

    rung: int
    index: Tensor
    hidden: Tensor
    lengths: Tensor
    router_logits: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, start: int, end: int) -> Group:
        """Return the group's samples from `start` to `end`."""
        cut, ends = slice(start, end), [0, *self.lengths.cumsum(0).tolist()]
        tokens = self.hidden[ends[start] : ends[end]]
        return Group(self.rung, self.index[cut], tokens, self.lengths[cut], self.router_logits[cut])


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
        self._parts = [_own(part) for part in self._parts]

    def take(self) -> Group:
        """Return all that waits, as one group; the pool is empty then."""
        parts, self._parts = self._parts, []
        if len(parts) == 1:
            return parts[0]
        names = ("index", "hidden", "lengths", "router_logits")
        return Group(self.rung, *(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _own(part: Group) -> Group:
    """Return the part with a hidden state of its own; a slice would keep the whole batch's alive while it waits."""
    whole = part.hidden.untyped_storage().nbytes() == part.hidden.nbytes
    return part if whole else Group(part.rung, part.index, part.hidden.clone(), part.lengths, part.router_logits)
