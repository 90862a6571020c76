"""Samples on their way through an engine and their answers, as NumPy arrays, whatever runtime runs the model.

Dimensions: `B` batch, `L` tokens, `T` real tokens of all samples, `W` rungs, `C` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Tokenised samples: `index` int64 [B], the caller's numbers for them; `input_ids` int64 [B, L], padded on the
    right; `lengths` int64 [B], real tokens; `token_type_ids` int64 [B, L], where the encoder has them."""

    index: np.ndarray
    input_ids: np.ndarray
    lengths: np.ndarray
    token_type_ids: np.ndarray | None = None


@dataclass(frozen=True)
class Answers:
    """Answers to samples: `index` int64 [B], `logits` float32 [B, C] (log-probabilities where a cascade averages),
    `rungs` int64 [B], `router_logits` float32 [B, W] (W is 0 where no router decides), `lengths` int64 [B], `first`
    int64 [B] (the rung that each began at), `certainties` float32 [B, W] (of a cascade, at the rungs that ran; else W
    is 0)."""

    index: np.ndarray
    logits: np.ndarray
    rungs: np.ndarray
    router_logits: np.ndarray
    lengths: np.ndarray
    first: np.ndarray
    certainties: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """Return the answers of several parts in their order."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Backend(Protocol):
    """The runtime that runs the parts of a model. Hidden states are packed, [T, D], arrays of the runtime's own kind
    (NumPy's or torch's) on its own device.

    Attributes: num_rungs, num_labels, and has_router, the facts that an engine needs.
    """

    num_rungs: int
    num_labels: int
    has_router: bool

    def trunk(self, batch: Batch, route: bool) -> tuple[Any, np.ndarray | None]:
        """Return the hidden states of a batch [T, D], and router logits float32 [B, W] (None without a router, or
        unless `route`). The hidden states may lie in memory that the next call overwrites."""
        raise NotImplementedError

    def tail(self, rung: int, hidden: Any, lengths: np.ndarray) -> Any:
        """Start the tail of a rung on hidden states [T, D] of samples of these lengths, int64 [B]; return logits [B, C]
        for `read`."""
        raise NotImplementedError

    def read(self, logits: Any) -> np.ndarray:
        """Wait for the logits of a tail and return them, float32 [B, C]."""
        raise NotImplementedError


def cuts(lengths: np.ndarray, size: int, tokens: int | None) -> list[tuple[int, int]]:
    """Return start and end of each batch of samples of these lengths, int64 [S], in their order: at most `size` samples
    and, where given, at most `tokens` tokens with padding. A longer sample is a batch of its own."""
    if tokens is None:
        return [(start, min(start + size, len(lengths))) for start in range(0, len(lengths), size)]
    found, start, longest = [], 0, 0
    for at, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if at > start and (at - start == size or (at - start + 1) * longest > tokens):
            found.append((start, at))
            start, longest = at, length
    return [*found, (start, len(lengths))] if len(lengths) else found


def row_places(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Return the places of real tokens in rows of `longest` tokens, int64 [T], from lengths [B]."""
    return np.flatnonzero(np.arange(longest) < lengths[:, None])


def real_tokens(lengths: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the positions of some samples' tokens among the packed tokens of `lengths`, int64 [T]."""
    starts, counts = lengths.cumsum()[samples] - lengths[samples], lengths[samples]
    before = counts.cumsum() - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)
