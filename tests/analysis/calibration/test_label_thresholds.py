from __future__ import annotations

import numpy as np
import pytest

from sharcs_pl.analysis.calibration.label_thresholds import best_thresholds, f1_at


def slow_f1(threshold: float, chances: np.ndarray, given: np.ndarray) -> float:
    predicted = chances >= threshold
    below = predicted.sum() + given.sum()
    return 2 * (predicted & given).sum() / below if below else 0.0


def test_no_threshold_is_better_than_the_chosen_one() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((200, 3)) < [0.5, 0.1, 0.3]
    chances = np.clip(0.3 * labels + rng.random((200, 3)) * 0.6, 0, 1)
    chosen = best_thresholds(chances, labels.astype(np.float32))
    for threshold, column, given in zip(chosen, chances.T, labels.T, strict=True):
        best = max(slow_f1(x, column, given) for x in np.linspace(0.001, 0.999, 999))
        assert slow_f1(threshold, column, given) >= best
        assert f1_at(np.array([threshold]), column, given)[0] == pytest.approx(slow_f1(threshold, column, given))


def test_a_rare_label_and_one_that_needs_no_other_keep_a_half() -> None:
    labels = np.zeros((40, 2))
    labels[:4, 0] = labels[:20, 1] = 1  # four texts are too few to choose by
    chances = np.where(labels > 0, 0.9, 0.05)
    chances[:, 0] = 0.3
    assert best_thresholds(chances, labels) == (0.5, 0.5)


def test_thresholds_lie_between_0_and_1_where_every_text_has_the_label() -> None:
    (found,) = best_thresholds(np.full((10, 1), 1e-3), np.ones((10, 1)))
    assert 0 < found <= 1e-3
