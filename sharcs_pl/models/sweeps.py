"""The operating points of a trained model, which are thresholds with the rung that each gives every sample.

Dimensions: `S` samples, `W` rungs or exits, `C` labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharcs_pl.models.router import choose_rungs
from sharcs_pl.models.stopping import StopRule, first_stop

LEVELS = 25


@dataclass(frozen=True)
class SweptPoint:
    """A threshold, in the unit of its key in the config, and the rung or exit of each sample, [S] long."""

    threshold: float
    rungs: Tensor


def levels_of(values: Tensor, most: int = LEVELS) -> list[float]:
    """Return at most `most` of the distinct `values` (any shape), evenly by rank, with the smallest and the largest."""
    seen = values.flatten().double().unique()
    if len(seen) > most:
        seen = seen[torch.linspace(0, len(seen) - 1, most).round().long()]
    return seen.tolist()


def sweep_router(router_logits: Tensor) -> list[SweptPoint]:
    """Return the points of `router_logits` [S, W] at the values of `router.threshold` that change choices. A value is a
    membership probability for all narrow rungs, from one that sends all to the narrowest to one that none reaches."""
    logits = router_logits.double()
    levels = [*levels_of(logits[:, :-1].cummax(-1).values), float("inf")]
    narrow = logits.shape[1] - 1
    probabilities = torch.tensor(levels).sigmoid().tolist()
    found = [choose_rungs(logits, logits.new_full((narrow,), level)) for level in levels]
    return [SweptPoint(p, rungs) for p, rungs in zip(probabilities, found, strict=True)]


def sweep_exits(rule: StopRule, logits: Tensor, certainty: Tensor | None, tolerance: float) -> list[SweptPoint]:
    """Return the points of `logits` [S, W, C] at each decisive `method.threshold`, and at one that no exit reaches."""
    sure = rule.sureness(logits.float(), certainty, tolerance)
    never = -float("inf") if rule.at_most else float("inf")
    levels = sorted([*levels_of(sure[:, :-1]), never])
    return [SweptPoint(x, first_stop(rule.stops(logits, certainty, tolerance, x))) for x in levels]


def cascade(logits: Tensor) -> list[SweptPoint]:
    """Return the points of a cascade from `logits` [S, W, C]. It starts narrow, and goes to the next wider rung while
    the largest class probability is below the threshold."""
    confidence = logits.float().softmax(-1).amax(-1)
    return [SweptPoint(x, first_stop(confidence >= x)) for x in levels_of(confidence[:, :-1])]
