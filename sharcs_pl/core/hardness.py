"""Hardness scores of training samples, and the rungs they make each sample a member of (SHARCS, arXiv 2310.12126).

Every epoch gives each sample one score, from the rung it ran on. The last `window` scores of a sample decide its
memberships. torch is imported inside functions, because checking a config needs only the names and ranges of scores.

Legend: `B` batch, `C` classes, `W` rungs, `S` samples, `R` samples recorded so far in the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sharcs_pl.core.kinds import kind_of_labels

if TYPE_CHECKING:
    from torch import Tensor

_NOT_SEEN = np.iinfo(np.int32).max
_MOST_UNREAD = 1000  # calls whose tensors may wait on their device


@dataclass(frozen=True)
class Score:
    """A kind of hardness score.

    Attributes: of, the scores [B] of class probabilities [B, C] and labels [B]; high, the largest score of any number
    of classes; most, the largest of a given number of classes; unit, a word for messages; easy_is_high, True where easy
    samples have the high scores; bounds, the default [lo, hi] of each of two widths, narrow first; middle, the limit of
    a width between two others where ranges are nested; for_regression, True if a regression, which scores closeness
    instead, accepts the name.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    high: float
    most: Callable[[int], float]
    easy_is_high: bool
    bounds: tuple[tuple[float, float], ...]
    middle: float
    unit: str = ""
    for_regression: bool = False

    def nested(self, widths: int) -> list[list[float]]:
        """Return ranges of which each holds the one before: those of `widths` widths, narrow first, the last of all
        scores."""
        low, high = min(self.bounds[-1][0], self.bounds[0][0]), max(self.bounds[0][1], self.bounds[-1][1])
        limits = [self.bounds[0][0 if self.easy_is_high else 1], *[self.middle] * (widths - 2)][: widths - 1]
        return [*([x, high] if self.easy_is_high else [low, x] for x in limits), [low, high]]

    @property
    def pairs(self) -> list[list[float]]:
        """The default bounds as a config holds them."""
        return [[*pair] for pair in self.bounds]

    @property
    def example(self) -> str:
        """The default bounds as they are typed."""
        return f"[{','.join(f'[{low:g},{high:g}]' for low, high in self.bounds)}]"


def _confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    return probabilities.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)


def _entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    import torch

    return torch.special.entr(probabilities).sum(dim=-1)


SCORES = {
    "confidence": Score(
        _confidence, 1.0, lambda classes: 1.0, True, ((0.8, 1.0), (0.0, 0.8)), 0.5, for_regression=True
    ),
    # With two classes an entropy of 0.5 nats is a largest probability of 0.8. No entropy reaches 100 nats.
    "entropy": Score(_entropy, math.inf, math.log, False, ((0.0, 0.5), (0.5, 100.0)), 0.69, unit=" nats"),
}


def sample_scores(logits: Tensor, labels: Tensor, kind: str, label_range: float | None = None) -> Tensor:
    """Return the scores of a batch, float32 [B], without gradient.

    `logits`: [B, C]. `labels`: [B]. `kind`: "confidence" is the probability of the true class, "entropy" is the entropy
    of the predicted distribution in nats. With `label_range` (regression, `logits` [B, 1]) the score is
    1 - min(1, |prediction - label| / label_range) for every kind. Where every output is a label of its own (`labels`
    [B, C] of 0 and 1), it is the mean of the labels' scores, each with its two outcomes as classes. Raise `ValueError`
    naming `hardness.score`.
    """
    _check_kind(kind)
    logits = logits.detach().float()
    if label_range is not None:
        assert label_range > 0, f"label range {label_range}"
        return 1 - ((logits.squeeze(-1) - labels.float()).abs() / label_range).clamp(max=1)
    task = kind_of_labels(labels, logits.shape[-1])
    choices = task.choices(task.probabilities(logits))
    found = SCORES[kind].of(choices.flatten(0, -2), labels.flatten()).view(labels.shape)
    return found if found.ndim == 1 else found.mean(-1)


class Recorded(NamedTuple):
    """The records of the current epoch, tensors [R] in order of uid: uids int64, scores float32, rungs int8, steps
    int32."""

    uids: Tensor
    scores: Tensor
    rungs: Tensor
    steps: Tensor


class HardnessBuffer:
    """The last `window` scores of every training sample, and the scores of the epoch being recorded.

    `num_epochs` is the number of closed epochs, and so the index of the epoch being recorded. Memory: 4 bytes per
    sample and epoch of the window, plus 9 per sample. Raise `ValueError` naming `hardness.window` if it is below 1.
    """

    def __init__(self, num_samples: int, window: int) -> None:
        if window < 1:
            raise ValueError(f"hardness.window: {window} is below 1")
        self.window = window
        self.num_epochs = 0
        self._ring = np.full((window, num_samples), np.nan, dtype=np.float32)
        self._open_epoch()

    @property
    def num_samples(self) -> int:
        return self._ring.shape[1]

    def record(self, uids: Any, scores: Any, rungs: Any, steps: Any = 0) -> None:
        """Record scores of the current epoch. A sample keeps the score of its first occurrence in the epoch.

        `uids`, `scores`, `rungs`: 1-D tensors or arrays of one length, on any device. They are read when the records
        are asked for, since a GPU is waited for at each reading, and must not change until then. `steps`: one optimizer
        step, or one per sample. Occurrences are ordered by step, then by call, then by position in the call, so that
        any number of ranks merges to the same table.
        """
        self._unread.append((uids, scores, rungs, steps))
        if len(self._unread) == _MOST_UNREAD:
            self._read()

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        for call in unread:
            self._enter(*call)

    def _enter(self, uids: Any, scores: Any, rungs: Any, steps: Any) -> None:
        uids, scores, rungs = _array(uids, np.int64), _array(scores, np.float32), _array(rungs, np.int8)
        assert uids.shape == scores.shape == rungs.shape == (len(uids),), "record wants 1-D arrays of one length"
        assert not len(uids) or 0 <= uids.min() <= uids.max() < self.num_samples, "a uid outside the training set"
        steps = np.broadcast_to(_array(steps, np.int32), uids.shape)
        by_step = np.argsort(steps, kind="stable")
        first = by_step[np.unique(uids[by_step], return_index=True)[1]]
        first = first[steps[first] < self._steps[uids[first]]]
        at = uids[first]
        self._scores[at], self._rungs[at], self._steps[at] = scores[first], rungs[first], steps[first]

    def recorded(self) -> Recorded:
        """Return the records of the current epoch, to send to another rank's `merge`."""
        import torch

        uids = self._seen()
        columns = uids, self._scores[uids], self._rungs[uids], self._steps[uids]
        return Recorded(*map(torch.from_numpy, columns))

    def merge(self, tables: Iterable[Sequence[Any]]) -> None:
        """Rebuild the records of the current epoch from every rank's `recorded()`, in the order of ranks."""
        self._open_epoch()
        for table in tables:
            self._enter(*table)

    def close_epoch(self) -> None:
        """End the epoch. Its scores replace the oldest ones in the window."""
        self._read()
        self._ring[self.num_epochs % self.window] = self._scores
        self.num_epochs += 1
        self._open_epoch()

    def memberships(self, bounds: Sequence[tuple[float, float]]) -> np.ndarray | None:
        """Return the memberships of samples in rungs, bool [S, W], or None until `window` epochs are closed.

        `bounds`: (lo, hi) per rung, both included. A sample is a member of a rung if lo <= min and max <= hi over its
        last `window` scores. A sample that fits no rung or lacks one of these scores is a member of the top rung.
        """
        if self.num_epochs < self.window:
            return None
        # A missing or undefined score is NaN: min and max keep it, and no comparison with it holds.
        lowest, highest = self._ring.min(axis=0), self._ring.max(axis=0)
        # Bounds in the scores' precision, or a score of exactly 0.2 would lie outside a bound of 0.2.
        limits = np.asarray(bounds, dtype=np.float32)
        members = np.stack([(lowest >= lo) & (highest <= hi) for lo, hi in limits], axis=1)
        members[:, -1] |= ~members.any(axis=1)
        return members

    def epoch_table(self) -> dict[str, np.ndarray]:
        """Return columns of the samples seen this epoch by rising uid: "uid" int64, "score" float32, "rung" int8."""
        uids = self._seen()
        return {"uid": uids, "score": self._scores[uids], "rung": self._rungs[uids]}

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state with the half-recorded epoch, in tensors and ints for weights-only checkpoints."""
        import torch

        self._read()
        arrays = {"ring": self._ring, "scores": self._scores, "rungs": self._rungs, "steps": self._steps}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return {"num_epochs": self.num_epochs, **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict()`. Raise `ValueError` if it has another window or another number of samples."""
        window, samples = state["ring"].shape
        if window != self.window:
            raise ValueError(f"hardness.window: the checkpoint was written with {window}, the run has {self.window}")
        if samples != self.num_samples:
            raise ValueError(f"task: the checkpoint holds scores of {samples} samples, the run has {self.num_samples}")
        self.num_epochs = int(state["num_epochs"])
        self._unread = []
        self._ring = _array(state["ring"], np.float32).copy()
        self._scores = _array(state["scores"], np.float32).copy()
        self._rungs = _array(state["rungs"], np.int8).copy()
        self._steps = _array(state["steps"], np.int32).copy()

    def _open_epoch(self) -> None:
        self._unread: list[tuple[Any, Any, Any, Any]] = []
        self._scores = np.full(self.num_samples, np.nan, dtype=np.float32)
        self._rungs = np.full(self.num_samples, -1, dtype=np.int8)
        self._steps = np.full(self.num_samples, _NOT_SEEN, dtype=np.int32)

    def _seen(self) -> np.ndarray:
        self._read()
        return np.flatnonzero(self._steps != _NOT_SEEN)


def _check_kind(kind: str) -> None:
    if kind not in SCORES:
        raise ValueError(f"hardness.score: {kind!r} is none of {', '.join(SCORES)}")


def _array(values: Any, dtype: type) -> np.ndarray:
    # numpy has no bfloat16 and cannot read a tensor on a device.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values, dtype=dtype)
