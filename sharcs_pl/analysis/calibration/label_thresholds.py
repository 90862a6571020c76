"""The threshold of each label of a model that gives a text any number of labels.

Legend: `S` samples, `C` labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from sharcs_pl.core.screen import new_table

FEWEST = 5  # texts with a label, below which its threshold stays
USUAL = 0.5


def best_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    """Return the threshold of each label that gives it the best f1, from `probabilities` and `labels` (0 or 1), both
    [S, C]. Of equally good ones it is the closest to 0.5, which also stays where fewer than `FEWEST` texts have the
    label."""
    columns = zip(probabilities.T.astype(float), labels.T > 0, strict=True)
    return tuple(_best(chances, given) if given.sum() >= FEWEST else USUAL for chances, given in columns)


def _best(chances: np.ndarray, given: np.ndarray) -> float:
    """Return the best threshold of one label: 0.5, or half-way between two neighbouring probabilities."""
    seen = np.unique(chances)
    candidates = np.array([USUAL, *(seen[:-1] + seen[1:]) / 2, seen[0] / 2])
    values = f1_at(candidates, chances, given)
    best = candidates[values == values.max()]
    return float(best[np.abs(best - USUAL).argmin()])


def f1_at(thresholds: np.ndarray, chances: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the f1 of one label at thresholds [T], from its probabilities and truths [S]; 0 where it is neither given
    nor predicted."""
    order = np.argsort(chances)
    behind = np.append(given[order][::-1].cumsum()[::-1], 0)  # the texts with the label from a place on
    first = np.searchsorted(chances[order], thresholds)
    below = len(chances) - first + given.sum()
    return np.divide(2 * behind[first], below, out=np.zeros(len(thresholds)), where=below > 0)


def thresholds_table(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    probabilities: np.ndarray,
    labels: np.ndarray,
    before: Sequence[float],
) -> Table:
    """Return a rich table of each label's threshold, its texts, and its f1 before and now, on samples [S, C]."""
    table = new_table(title, ("label", "texts", "threshold before", "f1", "threshold now", "f1"))
    columns = zip(names, before, values, probabilities.T.astype(float), labels.T > 0, strict=True)
    for name, old, new, chances, given in columns:
        f1 = [f"{x:.4f}" for x in f1_at(np.array([old, new]), chances, given)]
        table.add_row(name, f"{int(given.sum()):,}", f"{old:.4g}", f1[0], f"{new:.4g}", f1[1])
    return table
