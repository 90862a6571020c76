"""The paired bootstrap of a difference between two runs on the same samples.

A draw takes S of the S samples with replacement and gives both runs the same ones, so that what is hard for both does
not count as noise (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).

Legend: `S` samples, `C` classes, `T` draws at a time. Counts [T, S] say how often each sample comes up in a draw; a
metric as a function of counts takes any, of a part of the samples too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.core.kinds import MULTI_LABEL, kind_of_labels
from sharcs_pl.evaluation.metrics import compute_metric

Statistic = Callable[[np.ndarray], np.ndarray]  # counts [T, S] -> a value per draw [T]
DRAWS = 10_000
_CHUNK = 1 << 20  # counts held at a time: 8 MB


@dataclass(frozen=True)
class Bootstrap:
    """A paired difference A - B over `draws` resamples.

    `difference` is taken on the samples themselves. `low` and `high` bound the 95 % percentile interval. `p_value` is
    twice the smaller of the shares of draws at most and at least 0 (two-sided), each counted with one more so that it
    is not 0.
    """

    difference: float
    low: float
    high: float
    p_value: float
    draws: int


def paired_bootstrap(a: Tensor, b: Tensor, labels: Tensor, metric: str, draws: int = DRAWS, seed: int = 1) -> Bootstrap:
    """Bootstrap the difference of a metric between logits `a` and `b` [S, C] of the same samples, `labels` [S].

    It takes a second for 10,000 draws of 10,000 samples, six for Spearman's coefficient. A metric that `CLOSED_FORMS`
    lacks costs `draws` calls of `compute_metric` for each run.
    """
    value_a, value_b = resampled_metric(metric, a, labels), resampled_metric(metric, b, labels)
    return bootstrap(lambda counts: value_a(counts) - value_b(counts), len(labels), draws, seed)


def bootstrap(difference: Statistic, size: int, draws: int, seed: int) -> Bootstrap:
    """Bootstrap any difference, as a function of counts, over `draws` resamples of `size` samples."""
    assert draws > 0, draws
    found = np.concatenate([difference(counts) for counts in _resamples(size, draws, seed)])
    low, high = np.quantile(found, (0.025, 0.975)).tolist()
    beyond = min(int((found <= 0).sum()), int((found >= 0).sum()))
    seen = difference(np.ones((1, size), dtype=int)).item()
    return Bootstrap(seen, low, high, min(1.0, 2 * (beyond + 1) / (draws + 1)), draws)


def _resamples(size: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield counts, int64 [T, S], until `draws` rows have come."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // size)
    for start in range(0, draws, rows):
        some = min(rows, draws - start)
        picks = rng.integers(size, size=(some, size)) + np.arange(some)[:, None] * size
        yield np.bincount(picks.ravel(), minlength=some * size).reshape(some, size)


def resampled_metric(metric: str, logits: Tensor, labels: Tensor) -> Statistic:
    """Return a metric of logits [S, C] against labels [S] as a function of counts. A draw where the closed form is 0 /
    0, and every draw of a metric that has none, goes to `compute_metric`, so that its conventions hold."""
    make = CLOSED_FORMS.get(metric, lambda logits, labels: lambda counts: np.full(len(counts), np.nan))
    closed_form = make(logits.float(), labels)

    def values(counts: np.ndarray) -> np.ndarray:
        found = closed_form(counts)
        for draw in np.isnan(found).nonzero()[0]:
            rows = torch.from_numpy(np.repeat(np.arange(counts.shape[1]), counts[draw]))
            found[draw] = compute_metric(metric, logits[rows], labels[rows])
        return found

    return values


def _by_class(value: Callable[..., np.ndarray]) -> Callable[[Tensor, Tensor], Statistic]:
    """Return a metric of a draw's samples: right, of and predicted as each class or label, three float64 [T, C]."""

    def closed_form(logits: Tensor, labels: Tensor) -> Statistic:
        if kind_of_labels(labels, logits.shape[1]).multi_label:
            true, predicted = labels.double(), (logits >= 0).double()
        else:
            one_hot = torch.eye(logits.shape[1], dtype=torch.float64)
            true, predicted = one_hot[labels.long()], one_hot[logits.argmax(-1)]
        tallies = torch.cat([true * predicted, true, predicted], dim=1).numpy()
        return lambda counts: value(*np.split(counts @ tallies, 3, axis=1))

    return closed_form


def _macro_f1(logits: Tensor, labels: Tensor) -> Statistic:
    """Return the mean of f1 over classes, or over labels, where one that a draw lacks and nobody predicts counts 0."""
    several = kind_of_labels(labels, logits.shape[1]).multi_label

    def value(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        each = _ratio(2 * right, true + predicted)
        return (np.nan_to_num(each) if several else each).mean(-1)

    return _by_class(value)(logits, labels)


def _by_sample(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Statistic]:
    """Return the mean over a draw's samples of a value of each one's `quality`."""

    def closed_form(scores: Tensor, labels: Tensor) -> Statistic:
        each = value(MULTI_LABEL.quality(scores, labels)).double().numpy()
        return lambda counts: counts @ each / counts.sum(1)

    return closed_form


def _matthews(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return Gorodkin's coefficient for several classes, which is Matthews' for two."""
    size = true.sum(-1)
    spread = (size**2 - (true**2).sum(-1)) * (size**2 - (predicted**2).sum(-1))
    return _ratio(right.sum(-1) * size - (true * predicted).sum(-1), np.sqrt(spread))


def _pearson(logits: Tensor, labels: Tensor) -> Statistic:
    x, y = (column - column.mean() for column in (logits[:, 0].double().numpy(), labels.double().numpy()))
    parts = np.stack([x, y, x * x, y * y, x * y], axis=1)

    def values(counts: np.ndarray) -> np.ndarray:
        size = counts.sum(1)
        sum_x, sum_y, sum_xx, sum_yy, sum_xy = (counts @ parts).T
        xx, yy, xy = sum_xx - sum_x**2 / size, sum_yy - sum_y**2 / size, sum_xy - sum_x * sum_y / size
        constant = (xx <= 1e-12 * sum_xx) | (yy <= 1e-12 * sum_yy)  # 0 but for rounding
        return _ratio(xy, np.where(constant, 0, np.sqrt(np.abs(xx * yy))))

    return values


def _spearman(logits: Tensor, labels: Tensor) -> Statistic:
    """Return Pearson's coefficient of the ranks that the samples of a draw have among themselves."""
    ranks_x, ranks_y = _ranks(logits[:, 0].numpy()), _ranks(labels.float().numpy())

    def values(counts: np.ndarray) -> np.ndarray:
        x, y = ranks_x(counts), ranks_y(counts)
        xx, yy, xy = (np.einsum("ts,ts,ts->t", counts, u, v) for u, v in ((x, x), (y, y), (x, y)))
        return _ratio(xy, np.sqrt(xx.astype(float) * yy))

    return values


def _ranks(values: np.ndarray) -> Statistic:
    """Return a function from counts to twice the ranks [T, S] of `values` [S], less their mean; equals share one."""
    order = values.argsort(kind="stable")
    _, starts = np.unique(values[order], return_index=True)
    group = np.unique(values, return_inverse=True)[1]

    def ranks(counts: np.ndarray) -> np.ndarray:
        sizes = np.add.reduceat(counts[:, order], starts, axis=1)
        return (2 * sizes.cumsum(1) - sizes - counts.sum(1, keepdims=True))[:, group]

    return ranks


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


CLOSED_FORMS: dict[str, Callable[[Tensor, Tensor], Statistic]] = {
    "accuracy": _by_class(lambda right, true, predicted: right.sum(-1) / true.sum(-1)),
    "f1": _by_class(lambda right, true, predicted: _ratio(2 * right[:, 1], (true + predicted)[:, 1])),
    "macro_f1": _macro_f1,
    "micro_f1": _by_class(lambda right, true, predicted: _ratio(2 * right.sum(-1), (true + predicted).sum(-1))),
    "exact_match": _by_sample(lambda quality: quality >= 1),
    "hamming": _by_sample(lambda quality: quality),
    "matthews": _by_class(_matthews),
    "pearson": _pearson,
    "spearman": _spearman,
}
