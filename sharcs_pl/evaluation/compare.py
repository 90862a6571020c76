"""Two runs on the same samples: what each gains and costs, and whether the difference could be chance.

The bootstrap is paired: a draw takes S of the S samples with replacement and gives both runs the same ones, so that
what is hard for both does not count as noise (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).

Legend: `S` samples, `C` classes, `T` draws at a time. Counts [T, S] say how often each sample comes up in a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from sharcs_pl.core.flops import CostModel
from sharcs_pl.data.spec import metric_name
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions

Statistic = Callable[[np.ndarray], np.ndarray]  # counts [T, S] -> a value per draw [T]
DRAWS = 10_000
_CHUNK = 1 << 20  # counts held at a time: 8 MB


@dataclass(frozen=True)
class Bootstrap:
    """A paired difference A - B over `draws` resamples.

    `difference`: on the samples themselves. `low`, `high`: the 95 % percentile interval. `p_value`: two-sided, twice
    the smaller of the shares of draws at most and at least 0, each counted with one more so that it is never 0.
    """

    difference: float
    low: float
    high: float
    p_value: float
    draws: int


@dataclass(frozen=True)
class Side:
    """One run: its metric routed and with every sample on one rung; mean MACs per sample, also as a fraction of its
    stock model's; the share of samples per width."""

    value: float
    macs: float
    macs_fraction: float
    narrow: float
    top: float
    shares: dict[str, float]


@dataclass(frozen=True)
class Agreement:
    """How far two classifiers agree: the share of equal predictions, and McNemar's table as numbers of samples."""

    share: float
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int


@dataclass(frozen=True)
class Comparison:
    """Run A beside run B on one split. `agreement` is None for regression. The differences are A - B, of the routed
    metric and of the MACs as fractions of dense. `positive`: the class that f1 is about."""

    metric: str
    samples: int
    a: Side
    b: Side
    agreement: Agreement | None
    value_difference: Bootstrap
    cost_difference: Bootstrap
    positive: str | None = None

    @property
    def metric_name(self) -> str:
        """The metric as it is shown."""
        return metric_name(self.metric, self.positive)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        plain = asdict(self)
        if self.positive is None:
            del plain["positive"]
        return plain


def compare(
    a: Predictions, b: Predictions, metric: str, costs: tuple[CostModel, CostModel], draws: int = DRAWS, seed: int = 1
) -> Comparison:
    """Compare two runs on the same split, each with its own cost model: encoder, tokenizer and ladder may differ.
    `ValueError` where the samples differ or have no labels."""
    _check_same_samples(a, b)
    logits_a, logits_b, labels = a.routed_logits(), b.routed_logits(), a.labels
    macs_a, macs_b = _macs(a, costs[0]), _macs(b, costs[1])
    return Comparison(
        metric=metric,
        samples=len(labels),
        a=_side(a, metric, costs[0]),
        b=_side(b, metric, costs[1]),
        agreement=None if logits_a.shape[1] == 1 else _agreement(logits_a.argmax(-1), logits_b.argmax(-1), labels),
        value_difference=paired_bootstrap(logits_a, logits_b, labels, metric, draws, seed),
        cost_difference=bootstrap(lambda n: _fraction(n, macs_a) - _fraction(n, macs_b), len(labels), draws, seed),
    )


def paired_bootstrap(a: Tensor, b: Tensor, labels: Tensor, metric: str, draws: int = DRAWS, seed: int = 1) -> Bootstrap:
    """The difference of a metric between logits `a` and `b` [S, C] of the same samples, `labels` [S].

    A second for 10,000 draws of 10,000 samples, six for Spearman's coefficient; a metric that `CLOSED_FORMS` lacks
    costs `draws` calls of `compute_metric` for each run.
    """
    value_a, value_b = resampled_metric(metric, a, labels), resampled_metric(metric, b, labels)
    return bootstrap(lambda counts: value_a(counts) - value_b(counts), len(labels), draws, seed)


def bootstrap(difference: Statistic, size: int, draws: int, seed: int) -> Bootstrap:
    """Any difference, as a function of counts, over `draws` resamples of `size` samples."""
    assert draws > 0, draws
    found = np.concatenate([difference(counts) for counts in _resamples(size, draws, seed)])
    low, high = np.quantile(found, (0.025, 0.975)).tolist()
    beyond = min(int((found <= 0).sum()), int((found >= 0).sum()))
    seen = difference(np.ones((1, size), dtype=int)).item()
    return Bootstrap(seen, low, high, min(1.0, 2 * (beyond + 1) / (draws + 1)), draws)


def _resamples(size: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Counts int64 [T, S] until `draws` rows have come."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // size)
    for start in range(0, draws, rows):
        some = min(rows, draws - start)
        picks = rng.integers(size, size=(some, size)) + np.arange(some)[:, None] * size
        yield np.bincount(picks.ravel(), minlength=some * size).reshape(some, size)


def resampled_metric(metric: str, logits: Tensor, labels: Tensor) -> Statistic:
    """A metric of logits [S, C] against labels [S] as a function of counts. A draw where the closed form is 0 / 0, and
    every draw of a metric that has none, goes to `compute_metric`, so that its conventions hold."""
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
    """A metric of how many samples of a draw are right, of and predicted as each class, three float64 [T, C]."""

    def closed_form(logits: Tensor, labels: Tensor) -> Statistic:
        one_hot = torch.eye(logits.shape[1], dtype=torch.float64)
        true, predicted = one_hot[labels.long()], one_hot[logits.argmax(-1)]
        tallies = torch.cat([true * predicted, true, predicted], dim=1).numpy()
        return lambda counts: value(*np.split(counts @ tallies, 3, axis=1))

    return closed_form


def _matthews(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Gorodkin's coefficient for several classes, which is Matthews' for two."""
    size = true.sum(-1)
    spread = (size**2 - (true**2).sum(-1)) * (size**2 - (predicted**2).sum(-1))
    return _ratio(right.sum(-1) * size - (true * predicted).sum(-1), np.sqrt(spread))


def _pearson(logits: Tensor, labels: Tensor) -> Statistic:
    x, y = (column - column.mean() for column in (logits[:, 0].double().numpy(), labels.double().numpy()))
    parts, size = np.stack([x, y, x * x, y * y, x * y], axis=1), len(x)

    def values(counts: np.ndarray) -> np.ndarray:
        sum_x, sum_y, sum_xx, sum_yy, sum_xy = (counts @ parts).T
        xx, yy, xy = sum_xx - sum_x**2 / size, sum_yy - sum_y**2 / size, sum_xy - sum_x * sum_y / size
        constant = (xx <= 1e-12 * sum_xx) | (yy <= 1e-12 * sum_yy)  # 0 but for rounding
        return _ratio(xy, np.where(constant, 0, np.sqrt(np.abs(xx * yy))))

    return values


def _spearman(logits: Tensor, labels: Tensor) -> Statistic:
    """Pearson's coefficient of the ranks that the samples of a draw have among themselves."""
    ranks_x, ranks_y = _ranks(logits[:, 0].numpy()), _ranks(labels.float().numpy())

    def values(counts: np.ndarray) -> np.ndarray:
        x, y = ranks_x(counts), ranks_y(counts)
        xx, yy, xy = (np.einsum("ts,ts,ts->t", counts, u, v) for u, v in ((x, x), (y, y), (x, y)))
        return _ratio(xy, np.sqrt(xx.astype(float) * yy))

    return values


def _ranks(values: np.ndarray) -> Statistic:
    """From counts to twice the ranks [T, S], less their mean, of `values` [S]; equals share their mean rank."""
    order = values.argsort(kind="stable")
    _, starts = np.unique(values[order], return_index=True)
    group = np.unique(values, return_inverse=True)[1]

    def ranks(counts: np.ndarray) -> np.ndarray:
        sizes = np.add.reduceat(counts[:, order], starts, axis=1)
        return (2 * sizes.cumsum(1) - sizes - len(values))[:, group]

    return ranks


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


CLOSED_FORMS: dict[str, Callable[[Tensor, Tensor], Statistic]] = {
    "accuracy": _by_class(lambda right, true, predicted: right.sum(-1) / true.sum(-1)),
    "f1": _by_class(lambda right, true, predicted: _ratio(2 * right[:, 1], (true + predicted)[:, 1])),
    "macro_f1": _by_class(lambda right, true, predicted: _ratio(2 * right, true + predicted).mean(-1)),
    "matthews": _by_class(_matthews),
    "pearson": _pearson,
    "spearman": _spearman,
}


def _macs(run: Predictions, cost: CostModel) -> np.ndarray:
    """MACs of each sample on its rung and in the stock model, float64 [S, 2]."""
    lengths = run.lengths.numpy()
    spent = run.rung_macs(cost)[np.arange(len(lengths)), run.rungs.numpy()]
    return np.stack([spent, cost.dense_macs(lengths)], axis=1).astype(float)


def _fraction(counts: np.ndarray, macs: np.ndarray) -> np.ndarray:
    spent, dense = (counts @ macs).T
    return spent / dense


def _side(run: Predictions, metric: str, cost: CostModel) -> Side:
    spent, dense = _macs(run, cost).mean(0).tolist()
    logits, widths = (run.routed_logits(), run.logits[:, 0], run.logits[:, -1]), cost.ladder.labels()
    value, narrow, top = (compute_metric(metric, each, run.labels) for each in logits)
    shares = dict(zip(widths, run.shares(len(widths)), strict=True))
    return Side(value=value, macs=spent, macs_fraction=spent / dense, narrow=narrow, top=top, shares=shares)


def _agreement(a: Tensor, b: Tensor, labels: Tensor) -> Agreement:
    right_a, right_b = a == labels, b == labels
    cells = (right_a & right_b, right_a & ~right_b, ~right_a & right_b, ~right_a & ~right_b)
    return Agreement((a == b).double().mean().item(), *(int(cell.sum()) for cell in cells))


def _check_same_samples(a: Predictions, b: Predictions) -> None:
    other = "the runs are not of the same split and task"
    if len(a.uids) != len(b.uids):
        raise ValueError(f"{other}: {len(a.uids)} and {len(b.uids)} samples")
    for name, of_a, of_b in (("uids", a.uids, b.uids), ("labels", a.labels, b.labels)):
        rows = (of_a != of_b).nonzero().flatten()
        if len(rows):
            shown = f"the first in row {rows[0].item()}: {of_a[rows[0]].item():g} and {of_b[rows[0]].item():g}"
            raise ValueError(f"{other}: {len(rows)} of {len(of_a)} {name} differ, {shown}")
    if a.logits.shape[-1] != b.logits.shape[-1]:
        raise ValueError(f"{other}: {a.logits.shape[-1]} and {b.logits.shape[-1]} outputs per sample")
    if not a.labelled:
        raise ValueError("runs cannot be compared on a split whose labels are hidden")


def comparison_table(comparison: Comparison, names: tuple[str, str]) -> RenderableType:
    """A rich table of both runs as A and B, their names above it."""
    sides, title = (comparison.a, comparison.b), f"{comparison.metric_name} and cost on {comparison.samples:,} samples"
    table = Table(title=Text(f"{title}\nA  {names[0]}\nB  {names[1]}", style="italic"), title_justify="left")
    for name in ("", "A", "B", "A - B", "95% interval"):
        table.add_column(name, justify="left" if not name else "right")
    value = _difference(comparison.value_difference, 1, ".4f")
    table.add_row("routed", *(f"{side.value:.4f}" for side in sides), *value, style="bold")
    cost = _difference(comparison.cost_difference, 100, ".1f", " pp")
    table.add_row("MACs, of dense", *(f"{side.macs_fraction:.1%}" for side in sides), *cost)
    table.add_row("MACs/sample", *(f"{side.macs / 1e6:,.1f} M" for side in sides), end_section=True)
    table.add_row("all narrow", *(f"{side.narrow:.4f}" if len(side.shares) > 1 else "-" for side in sides))
    table.add_row("all at full width", *(f"{side.top:.4f}" for side in sides), end_section=True)
    # Of widths, and of exits: "layer_2".
    numbers = {label: Fraction(label.rsplit("_", 1)[-1]) for side in sides for label in side.shares}
    for width in sorted(numbers, key=lambda label: numbers[label]):
        shares = (f"{side.shares[width]:.1%}" if width in side.shares else "-" for side in sides)
        table.add_row(f"share at {width}", *shares)
    return Group(table, *(Text(line, style="dim") for line in _footnotes(comparison)))


def _difference(found: Bootstrap, scale: float, form: str, unit: str = "") -> tuple[str, str]:
    seen, low, high = (format(scale * x, f"+{form}") for x in (found.difference, found.low, found.high))
    return seen + unit, f"[{low}, {high}]"


def _footnotes(comparison: Comparison) -> list[str]:
    value, cost, pairs = comparison.value_difference, comparison.cost_difference, comparison.agreement
    chance = f"p = {value.p_value:.2g} ({comparison.metric}), {cost.p_value:.2g} (MACs)"
    lines = [f"paired bootstrap of {value.draws:,} draws: {chance}"]
    if pairs:
        right = f"both {pairs.both_right}, only A {pairs.only_a}, only B {pairs.only_b}, neither {pairs.both_wrong}"
        lines.append(f"same prediction {pairs.share:.1%} · right: {right}")
    return lines
