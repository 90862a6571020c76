"""The stop rules, one row each. A rule returns a sureness per exit, which is compared with a threshold.

Dimensions: `B` batch, `E` exits seen so far, `C` labels (1: a regression).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharcs_pl.core.kinds import task_kind


@dataclass(frozen=True)
class StopRule:
    """A stop rule. `sureness` returns [B, E] from logits [B, E, C], certainties [B, E] (None if not learned) and the
    tolerance; each value depends only on its exit and earlier ones. A sample stops at the first exit whose sureness is
    at least the threshold, or, with `at_most`, at most the threshold. `multi_label`: every output is a label of its
    own."""

    sureness: Callable[[Tensor, Tensor | None, float], Tensor]
    at_most: bool = False
    multi_label: bool = False

    def sure(self, logits: Tensor, certainty: Tensor | None, tolerance: float) -> Tensor:
        """Return the sureness [B, E]; of labels of their own, each taken as two classes, that of the least sure one."""
        scores = logits.float()
        if not self.multi_label:
            return self.sureness(scores, certainty, tolerance)
        found = self.sureness(torch.stack([torch.zeros_like(scores), scores], -1), certainty, tolerance)
        if found.ndim == 2:  # a learned certainty is about all labels
            return found
        return found.amax(-1) if self.at_most else found.amin(-1)

    def stops(self, logits: Tensor, certainty: Tensor | None, tolerance: float, threshold: float) -> Tensor:
        """Return True for each exit at which a sample would stop, bool [B, E]."""
        sure = self.sure(logits, certainty, tolerance)
        return sure <= threshold if self.at_most else sure >= threshold


def _confidence(logits: Tensor, certainty: Tensor | None, tolerance: float) -> Tensor:
    """Return the largest class probability (Shallow-Deep Networks, Kaya et al. 2019, section 4)."""
    return logits.softmax(-1).amax(-1)


def _entropy(logits: Tensor, certainty: Tensor | None, tolerance: float) -> Tensor:
    """Return the prediction's entropy in nats (BranchyNet, Teerapittayanon et al. 2016, section III-B; DeeBERT)."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def _uncertainty(logits: Tensor, certainty: Tensor | None, tolerance: float) -> Tensor:
    """Return the entropy divided by its largest value, in [0, 1] (FastBERT, Liu et al. 2020, equation 6)."""
    return _entropy(logits, certainty, tolerance) / torch.tensor(float(logits.shape[-1])).log()


def _patience(logits: Tensor, certainty: Tensor | None, tolerance: float) -> Tensor:
    """Return the number of exits in a row that agree with the previous one (PABEE, Zhou et al. 2020, section 3.2)."""
    agrees = task_kind(logits.shape[-1]).alike(logits[:, 1:], logits[:, :-1], tolerance)
    counts = [torch.zeros_like(logits[:, 0, ..., 0])]
    for column in agrees.unbind(1):
        counts.append(torch.where(column, counts[-1] + 1, 0.0))
    return torch.stack(counts, 1)


def _learned(logits: Tensor, certainty: Tensor | None, tolerance: float) -> Tensor:
    """Return the learned certainty (BERxiT, Xin et al. 2021, section 3.3)."""
    assert certainty is not None
    return certainty.float().sigmoid()


RULES = {
    "confidence": StopRule(_confidence),
    "entropy": StopRule(_entropy, at_most=True),
    "uncertainty": StopRule(_uncertainty, at_most=True),
    "patience": StopRule(_patience),
    "learned": StopRule(_learned),
}


def first_stop(stops: Tensor) -> Tensor:
    """Return the first exit at which each sample stops, [B] long, else the last one. `stops`: bool [B, E]."""
    stops = stops.clone()
    stops[:, -1] = True
    return stops.int().argmax(-1)
