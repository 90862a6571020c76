"""How hard each training sample is, and which rungs that makes it a member of (SHARCS, arXiv 2310.12126).

Every epoch gives each sample one score, from the rung it ran on. The last `window` scores of a sample decide its
memberships. torch is imported where it is used: checking a config needs the names and ranges of scores, not torch.

Legend: `B` batch, `C` classes, `W` rungs, `S` samples, `K` window, `R` samples recorded so far in the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("confidence", "entropy")

_NOT_SEEN = np.iinfo(np.int32).max


def score_range(kind: str, regression: bool) -> tuple[float, float]:
    """Lowest and highest score there can be, to check bounds against. Raises `ValueError` naming `hardness.score`."""
    _check_kind(kind)
    return (0.0, math.inf) if kind == "entropy" and not regression else (0.0, 1.0)


def sample_scores(logits: Tensor, labels: Tensor, kind: str, label_range: float | None = None) -> Tensor:
    """Scores of a batch, float32 [B], without gradient.

    `logits` [B, C] and `labels` [B]. `kind` "confidence": probability of the true class; "entropy": of the prediction,
    in nats. With `label_range` (regression, `logits` [B, 1]): 1 - min(1, |prediction - label| / label_range), whatever
    the kind. Raises `ValueError` naming `hardness.score`.
    """
    import torch

    _check_kind(kind)
    logits = logits.detach().float()
    if label_range is not None:
        assert label_range > 0, f"label range {label_range}"
        return 1 - ((logits.squeeze(-1) - labels.float()).abs() / label_range).clamp(max=1)
    probabilities = logits.softmax(dim=-1)
    if kind == "entropy":
        return torch.special.entr(probabilities).sum(dim=-1)
    return probabilities.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)


class Recorded(NamedTuple):
    """An epoch so far, tensors [R] by rising uid: uids int64, scores float32, rungs int8, steps int32."""

    uids: Tensor
    scores: Tensor
    rungs: Tensor
    steps: Tensor


class HardnessBuffer:
    """The last `window` scores of every training sample, and those of the epoch being recorded.

    `num_epochs` counts the epochs closed, so it is also the index of the epoch being recorded. Memory: 4 bytes per
    sample and epoch of the window, and 9 more per sample. Raises `ValueError` naming `hardness.window`.
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
        """Notes scores of the current epoch; a sample keeps the score of its first occurrence in the epoch.

        `uids`, `scores`, `rungs`: 1-D tensors or arrays of one length, on any device. First is the lowest `steps`
        (one optimizer step, or one per sample), then the earliest call, then the earliest place in the call: so ranks
        merge to the same table whatever their number.
        """
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
        """The current epoch's table so far, to send to another rank's `merge`."""
        import torch

        uids = self._seen()
        columns = uids, self._scores[uids], self._rungs[uids], self._steps[uids]
        return Recorded(*map(torch.from_numpy, columns))

    def merge(self, tables: Iterable[Sequence[Any]]) -> None:
        """Makes the current epoch's table anew from every rank's `recorded()`, in the order of ranks."""
        self._open_epoch()
        for table in tables:
            self.record(*table)

    def close_epoch(self) -> None:
        """Ends the epoch: its scores take the place of the oldest in the window."""
        self._ring[self.num_epochs % self.window] = self._scores
        self.num_epochs += 1
        self._open_epoch()

    def memberships(self, bounds: Sequence[tuple[float, float]]) -> np.ndarray | None:
        """Which rungs each sample is a member of, bool [S, W]; None until `window` epochs are closed.

        `bounds`: (lo, hi) per rung, both included: a member when lo <= min and max <= hi over its last `window`
        scores. Member of none, or without a score in one of those epochs: the top rung.
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
        """The epoch being recorded, by rising `uid`: "uid" int64, "score" float32, "rung" int8; seen samples only."""
        uids = self._seen()
        return {"uid": uids, "score": self._scores[uids], "rung": self._rungs[uids]}

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything, the half-recorded epoch too, in tensors and ints (for weights-only checkpoints)."""
        import torch

        arrays = {"ring": self._ring, "scores": self._scores, "rungs": self._rungs, "steps": self._steps}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return {"num_epochs": self.num_epochs, **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict()`; raises `ValueError` when it is of another window or number of samples."""
        window, samples = state["ring"].shape
        if window != self.window:
            raise ValueError(f"hardness.window: the checkpoint was written with {window}, the run has {self.window}")
        if samples != self.num_samples:
            raise ValueError(f"task: the checkpoint holds scores of {samples} samples, the run has {self.num_samples}")
        self.num_epochs = int(state["num_epochs"])
        self._ring = _array(state["ring"], np.float32).copy()
        self._scores = _array(state["scores"], np.float32).copy()
        self._rungs = _array(state["rungs"], np.int8).copy()
        self._steps = _array(state["steps"], np.int32).copy()

    def _open_epoch(self) -> None:
        self._scores = np.full(self.num_samples, np.nan, dtype=np.float32)
        self._rungs = np.full(self.num_samples, -1, dtype=np.int8)
        self._steps = np.full(self.num_samples, _NOT_SEEN, dtype=np.int32)

    def _seen(self) -> np.ndarray:
        return np.flatnonzero(self._steps != _NOT_SEEN)


def _check_kind(kind: str) -> None:
    if kind not in SCORES:
        raise ValueError(f"hardness.score: {kind!r} is none of {', '.join(SCORES)}")


def _array(values: Any, dtype: type) -> np.ndarray:
    # A bfloat16 tensor has no numpy twin, and a device's tensor no numpy at all.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values, dtype=dtype)
