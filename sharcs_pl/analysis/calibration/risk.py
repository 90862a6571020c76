"""Promises about a risk from a finite sample: exact binomial tests, bounds and sample sizes.

The risk of an operating point is P(top rung right and routed wrong). With it counted once per sample, S samples show
Binomial(S, risk) errors. It bounds the drop in accuracy, which is the risk less what routing happens to mend. Nothing
is assumed of the router or of the texts but that the samples are drawn alike (Learn-then-Test: Angelopoulos, Bates,
Candes, Jordan and Lei 2021, arXiv 2110.01052). Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.special import bdtr, betaincinv

_MOST = 1 << 40  # samples; an estimate above that is as good as none


def p_value(errors: Any, samples: int, max_risk: float) -> Any:
    """Return P(at most `errors` among `samples`) if the risk were `max_risk`; it is small where the risk must be below
    it. The value is exact, for an int or an array of them (section 2 of the paper, the binomial tail)."""
    return bdtr(errors, samples, max_risk)


def upper_bound(errors: int, samples: int, confidence: float) -> float:
    """Return the exact one-sided bound of the risk after `errors` among `samples` (Clopper and Pearson 1934). It is at
    most r exactly when `p_value(errors, samples, r)` is at most 1 - confidence."""
    return 1.0 if errors >= samples else float(betaincinv(errors + 1, samples - errors, confidence))


def fixed_sequence(errors: Iterable[int], samples: int, max_risk: float, confidence: float) -> int:
    """Return how many leading hypotheses "the risk exceeds `max_risk`" are rejected, in an order fixed in advance.

    The order must not depend on these samples. Each is tested at the full level 1 - confidence, and the first that
    stands ends the sequence, so the chance of one wrong rejection among all is at most 1 - confidence (fixed-sequence
    testing, section 3 of the paper).
    """
    rejected = 0
    for found in errors:
        if p_value(found, samples, max_risk) > 1 - confidence:
            break
        rejected += 1
    return rejected


def samples_without_error(max_risk: float, confidence: float) -> int:
    """Return the fewest samples that can promise `max_risk`, without an error: (1 - max_risk)^S <= 1 - confidence."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-max_risk) - 1e-9)


def samples_at(risk: float, max_risk: float, confidence: float) -> int | None:
    """Return about how many samples promise `max_risk` if the share `risk` are errors; None where none would."""
    if risk >= max_risk:
        return None

    def enough(samples: int) -> bool:
        return p_value(math.ceil(risk * samples), samples, max_risk) <= 1 - confidence

    high = samples_without_error(max_risk, confidence)
    while not enough(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def pareto_path(risk: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the indices of the points [P] that no other beats in both, from the least risk to the least cost."""
    order = np.lexsort((cost, risk))
    cheapest_before = np.minimum.accumulate(np.concatenate([[np.inf], cost[order][:-1]]))
    return order[cost[order] < cheapest_before]


def check_enough(samples: int, num_rungs: int, max_drop: float, confidence: float) -> None:
    """Raise ``ValueError`` where so few samples can promise nothing, whatever the model."""
    testing = samples if num_rungs == 2 else samples - samples // 2
    fewest = samples_without_error(max_drop, confidence)
    if testing < fewest:
        raise ValueError(f"{cannot(samples, max_drop, confidence)}: {takes(fewest, num_rungs)} even without one error")


def cannot(samples: int, max_drop: float, confidence: float) -> str:
    """Return the beginning of a refusal."""
    return f"max_drop={max_drop:g} cannot be promised with confidence={confidence:g} from {samples:,} texts"


def takes(samples: int, num_rungs: int) -> str:
    """Return how many texts would do in all, where `samples` of them would for testing."""
    twice = "" if num_rungs == 2 else " (half of them finds the thresholds, half tests them)"
    return f"it takes {samples * (1 if num_rungs == 2 else 2):,} or more{twice}"
