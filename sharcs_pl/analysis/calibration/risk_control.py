"""Risk control: the cheapest thresholds whose drop in accuracy stays below a limit, with a confidence.

Legend: `S` samples, `W` rungs, `P` points of a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sharcs_pl.analysis.calibration.budget import Grid, Outcomes
from sharcs_pl.analysis.calibration.risk import (
    cannot,
    check_enough,
    fixed_sequence,
    pareto_path,
    samples_at,
    takes,
    upper_bound,
)
from sharcs_pl.core.decision import DecisionRule

USEFUL = 0.01  # a point that saves less of what all-narrow would save is no answer
_STEPS = (1 / 8, 1 / 4, 1 / 2, 3 / 4)  # how far the cautious start of a path goes towards its first point


@dataclass(frozen=True)
class Promise:
    """A setting whose risk is at most the one asked for, with the `errors` among the `samples` that tested it and the
    exact upper `bound` of the risk."""

    rule: DecisionRule
    errors: int
    samples: int
    bound: float


def control(outcomes: Outcomes, max_drop: float, confidence: float, seed: int = 1) -> Promise:
    """Return the cheapest thresholds whose risk is at most `max_drop` with `confidence`, over the draw of the samples.

    From cautious to cheap, thresholds are tested until one fails. For two rungs it is every threshold, on all samples.
    The risk rises as the threshold falls, so passing at one that breaks the promise means passing where the risk is
    `max_drop`, though scores of the samples themselves are the candidates (Bates et al. 2021, arXiv 2101.02703, theorem
    1). For more, one half of the samples, drawn by `seed`, finds the combinations that no other beats in risk and cost,
    and the other half tests them in that order (Pareto testing: Laufer-Goldshtein et al. 2023, arXiv 2210.07913).

    Raise `ValueError` where the samples support no point that saves anything; it says how many would do.
    """
    check_enough(len(outcomes), outcomes.num_rungs, max_drop, confidence)
    path = _two_rungs(outcomes) if outcomes.num_rungs == 2 else _halves(outcomes, seed)
    tested = path.tested
    passed = fixed_sequence(path.errors(), len(tested), max_drop, confidence)
    if passed == 0 or not _useful(outcomes, path.thresholds[passed - 1]):
        raise ValueError(_too_few(outcomes, path, passed, max_drop, confidence))
    chosen = path.thresholds[passed - 1]
    found = int(tested.at(tested.errors, chosen).sum())
    bound = upper_bound(found, len(tested), confidence)
    return Promise(DecisionRule(starts=tuple(chosen.tolist())), found, len(tested), bound)


@dataclass(frozen=True)
class _Path:
    """Thresholds [P, W-1] from cautious to cheap, the samples that test them, and the errors of each where known."""

    thresholds: np.ndarray
    tested: Outcomes
    counted: np.ndarray | None = None

    def errors(self) -> Iterator[int]:
        """Yield the errors along the path; each is counted only when it is asked for, since a sequence ends early."""
        if self.counted is not None:
            yield from self.counted.tolist()
            return
        losses = self.tested.errors
        for thresholds in self.thresholds:
            yield int(self.tested.at(losses, thresholds).sum())


def _two_rungs(outcomes: Outcomes) -> _Path:
    """Return the path of every threshold but all-top, from the highest, on all samples."""
    grid = Grid.over(outcomes.scores)
    errors = grid.totals(outcomes.errors).round().astype(int)
    return _Path(grid.levels[0][-2::-1, None], outcomes, errors[-2::-1])


def _halves(outcomes: Outcomes, seed: int) -> _Path:
    """Return the path found on one half of the samples, for the other half."""
    order = np.random.default_rng(seed).permutation(len(outcomes))
    half = len(outcomes) // 2
    designing = outcomes.select(order[:half])
    grid = Grid.over(designing.scores)
    path = pareto_path(grid.totals(designing.errors).round(), grid.totals(designing.costs))
    return _Path(grid.thresholds(np.concatenate([_cautious(grid, path[0]), path])), outcomes.select(order[half:]))


def _cautious(grid: Grid, first: int) -> np.ndarray:
    """Return combinations between all-top and a path's first one. That one had no error where it was found and may have
    had luck; what comes before it in the sequence costs no power, and leaves something to pass."""
    start, top = np.array(np.unravel_index(first, grid.shape)), np.array(grid.shape) - 1
    places = [top - np.ceil(step * (top - start)).astype(int) for step in _STEPS]
    return np.array([np.ravel_multi_index(tuple(place), grid.shape) for place in places])


def _useful(outcomes: Outcomes, thresholds: np.ndarray) -> bool:
    """Return True if a point saves at least the share `USEFUL` of what all-narrow would."""
    top, narrow = outcomes.costs[:, -1].mean(), outcomes.costs[:, 0].mean()
    return bool(top - outcomes.at(outcomes.costs, thresholds).mean() >= USEFUL * (top - narrow))


def _too_few(outcomes: Outcomes, path: _Path, passed: int, max_drop: float, confidence: float) -> str:
    """Return why there is no point, and about how many samples would do at the risk seen before a useful one."""
    tested, ahead = path.tested, path.thresholds[passed:]
    useful = next(place for place, thresholds in enumerate(ahead) if _useful(outcomes, thresholds))
    risk = max(tested.at(tested.errors, thresholds).mean() for thresholds in ahead[: useful + 1])
    needed = samples_at(risk, max_drop, confidence)
    seen = f"{cannot(len(outcomes), max_drop, confidence)}: the first saving of note shows a risk of {risk:.2%}"
    if needed is None:
        return f"{seen}, and no number of texts would do"
    return f"{seen}, and {takes(needed, outcomes.num_rungs)} at that"
