"""The arithmetic of decision rules: where a sample begins, how sure it is of each answer, and where it stops.

Written once for NumPy arrays and torch tensors, so that a runtime without torch decides as training and evaluation do.
Loads no torch.

Dimensions: `S` samples, `W` rungs, `C` labels (1: a regression).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sharcs_pl.core.arrays import Array, as_float32, library_of
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.kinds import Kind, task_kind


def choose_rungs(router_logits: Array, thresholds: Array | Sequence[float] | None = None) -> Array:
    """Return the rung of each sample, int64 [S], from `router_logits` [S, W].

    Without `thresholds` this is the likeliest rung. With thresholds ([W-1], in logits) it is the narrowest rung i at
    which some rung up to i reaches thresholds[i], else the top, because a text that suits a narrow rung suits a wider
    one. If bounds overlap, a sample belongs to several rungs, and the likeliest may not be the cheapest.
    """
    xp = library_of(router_logits)
    if thresholds is None:
        return xp.argmax(router_logits, -1)
    rungs = xp.full_like(router_logits[:, 0], router_logits.shape[1] - 1, dtype=xp.int64)
    for rung in reversed(range(router_logits.shape[1] - 1)):
        easy = xp.amax(router_logits[:, : rung + 1], -1) >= thresholds[rung]
        rungs = xp.where(easy, rung, rungs)
    return rungs


def first_rungs(rule: DecisionRule, router_logits: Any, size: int, top: int, library: Any) -> Any:
    """Return the rung that each of `size` samples begins at, int64 [S], from `router_logits` [S, W] (None: no router).
    A rule that routes runs all at the `top` rung where there is no router. `library` is `numpy` or `torch`."""
    if rule.routed and router_logits is not None:
        return choose_rungs(as_float32(router_logits), rule.starts)
    return library.full((size,), top if rule.routed else 0)


def answers(rule: DecisionRule, logits: Array, first: Array) -> Array:
    """Return what a sample that begins at `first` [S] answers when it stops at each rung, float32 [S, W, C], from
    `logits` [S, W, C]. Rungs before `first` mean nothing."""
    xp, scores = library_of(logits), as_float32(logits)
    if rule.temperatures is not None:
        scores = scores / _like(rule.temperatures[: scores.shape[1]], scores)[:, None]
    if not rule.average:
        return scores
    ran = (xp.arange(scores.shape[1], device=scores.device) >= first[:, None])[..., None]
    scores = task_kind(scores.shape[2], rule.multi_label).averaged(scores)
    return xp.cumsum(xp.where(ran, scores, 0.0), 1) / xp.clip(xp.cumsum(as_float32(ran), 1), 1, None)


def certainties(rule: DecisionRule, logits: Array, first: Array) -> Array:
    """Return how sure a sample that begins at `first` [S] is of its answer at each rung, float32 [S, W], from `logits`
    [S, W, C]. Rungs before `first` mean nothing."""
    found = answers(rule, logits, first)
    if rule.certainty == "agreement":
        return _agreement(rule, found, first)
    return certainty_of(task_kind(found.shape[2], rule.multi_label), rule.certainty, found)


def certainty_of(kind: Kind, name: str, scores: Array) -> Array:
    """Return how sure answers with these `scores` [.., C] are, [..], by a `CERTAINTY`; of several labels, how sure the
    least sure one is."""
    return kind.least(CERTAINTY[name](kind.choices(kind.probabilities(scores))))


def stops_at(rule: DecisionRule, certainty: Array) -> Array:
    """Return True where a sample that ran on a rung stops there, bool [S, W], from `certainties` [S, W]."""
    assert rule.stops is not None
    return certainty >= _like((*rule.stops, -np.inf)[: certainty.shape[1]], certainty)


def _agreement(rule: DecisionRule, found: Array, first: Array) -> Array:
    """Return minus the change of the answer since the rung before; minus infinity at `first`."""
    xp = library_of(found)
    change = task_kind(found.shape[2], rule.multi_label).change(found[:, 1:], found[:, :-1])
    change = xp.concatenate([xp.full_like(found[:, :1, 0], -np.inf), change], 1)
    alone = xp.arange(found.shape[1], device=found.device) <= first[:, None]
    return xp.where(alone, -np.inf, change)


def _probability(probabilities: Array) -> Array:
    return library_of(probabilities).amax(probabilities, -1)


def _margin(probabilities: Array) -> Array:
    if isinstance(probabilities, np.ndarray):
        best = -np.partition(-probabilities, 1, -1)
    else:
        best = probabilities.topk(2, -1).values
    return best[..., 0] - best[..., 1]


def _entropy(probabilities: Array) -> Array:
    xp = library_of(probabilities)
    logarithms = xp.log(xp.clip(probabilities, float(np.finfo(np.float32).tiny), None))
    return 1 + xp.sum(probabilities * logarithms, -1) / float(np.log(np.float32(probabilities.shape[-1])))


CERTAINTY = {"probability": _probability, "margin": _margin, "entropy": _entropy}  # [.., C] -> [..]


def _like(values: Sequence[float], array: Any) -> Any:
    """Return values as an array of the kind, precision and device of another, without waiting for a GPU."""
    if isinstance(array, np.ndarray):
        return np.array(values, array.dtype)
    return library_of(array).tensor(values, dtype=array.dtype).to(array.device, non_blocking=True)
