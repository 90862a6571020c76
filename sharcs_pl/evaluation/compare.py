"""A comparison of two runs on the same samples: gains, costs, and whether the difference could be chance.

Legend: `S` samples, `T` draws at a time. Counts [T, S] say how often each sample comes up in a draw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text
from torch import Tensor

from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.kinds import Kind
from sharcs_pl.core.screen import new_table
from sharcs_pl.data.spec import metric_name
from sharcs_pl.evaluation.bootstrap import DRAWS, Bootstrap, bootstrap, paired_bootstrap
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import point_of


@dataclass(frozen=True)
class Side:
    """One run: its metric routed and with every sample on one rung, the mean MACs per sample, also as a fraction of its
    stock model's, and the share of samples per width."""

    value: float
    macs: float
    macs_fraction: float
    narrow: float
    top: float
    shares: dict[str, float]


@dataclass(frozen=True)
class Agreement:
    """The agreement of two classifiers: the share of equal predictions, and McNemar's table as numbers of samples."""

    share: float
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int


@dataclass(frozen=True)
class Comparison:
    """Run A beside run B on one split. `agreement` is None for regression. The differences are A - B, in the routed
    metric and in the MACs as fractions of dense. `positive` is the class that f1 is about."""

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
        """Return the comparison as plain types."""
        plain = asdict(self)
        if self.positive is None:
            del plain["positive"]
        return plain


def compare(
    a: Predictions, b: Predictions, metric: str, costs: tuple[CostModel, CostModel], draws: int = DRAWS, seed: int = 1
) -> Comparison:
    """Compare two runs on the same split, each with its own cost model; encoder, tokenizer and ladder may differ. Raise
    `ValueError` where the samples differ or have no labels."""
    _check_same_samples(a, b)
    logits_a, logits_b, labels = a.routed_logits(), b.routed_logits(), a.labels
    macs_a, macs_b = _macs(a, costs[0]), _macs(b, costs[1])
    return Comparison(
        metric=metric,
        samples=len(labels),
        a=_side(a, metric, costs[0]),
        b=_side(b, metric, costs[1]),
        agreement=_agreement(a.kind, logits_a, logits_b, labels) if a.kind.has_classes else None,
        value_difference=paired_bootstrap(logits_a, logits_b, labels, metric, draws, seed),
        cost_difference=bootstrap(lambda n: _fraction(n, macs_a) - _fraction(n, macs_b), len(labels), draws, seed),
    )


def _macs(run: Predictions, cost: CostModel) -> np.ndarray:
    """Return the MACs of each sample on its rung and in the stock model, float64 [S, 2]."""
    lengths = run.lengths.numpy()
    return np.stack([run.spent_macs(cost), cost.dense_macs(lengths)], axis=1).astype(float)


def _fraction(counts: np.ndarray, macs: np.ndarray) -> np.ndarray:
    spent, dense = (counts @ macs).T
    return spent / dense


def _side(run: Predictions, metric: str, cost: CostModel) -> Side:
    narrow, top = (compute_metric(metric, run.scores[:, rung], run.labels) for rung in (0, -1))
    shares = dict(zip(cost.ladder.labels(), run.shares(len(cost.ladder)), strict=True))
    return Side(**asdict(point_of(run, metric, cost)), narrow=narrow, top=top, shares=shares)


def _agreement(kind: Kind, a: Tensor, b: Tensor, labels: Tensor) -> Agreement:
    right_a, right_b = (kind.quality(logits, labels) >= 1 for logits in (a, b))
    cells = (right_a & right_b, right_a & ~right_b, ~right_a & right_b, ~right_a & ~right_b)
    return Agreement(kind.alike(a, b).double().mean().item(), *(int(cell.sum()) for cell in cells))


def _check_same_samples(a: Predictions, b: Predictions) -> None:
    other = "the runs are not of the same split and task"
    if len(a.uids) != len(b.uids):
        raise ValueError(f"{other}: {len(a.uids)} and {len(b.uids)} samples")
    for name, of_a, of_b in (("uids", a.uids, b.uids), ("labels", a.labels, b.labels)):
        if of_a.shape[1:] != of_b.shape[1:]:
            raise ValueError(f"{other}: one has several labels per sample")
        differ = of_a != of_b
        rows = (differ if differ.ndim == 1 else differ.any(1)).nonzero().flatten()
        if len(rows):
            both = [x[rows[0]] for x in (of_a, of_b)]
            values = [f"{x.item():g}" if x.ndim == 0 else str(x.int().tolist()) for x in both]
            shown = f"the first in row {rows[0].item()}: {' and '.join(values)}"
            raise ValueError(f"{other}: {len(rows)} of {len(of_a)} {name} differ, {shown}")
    if a.logits.shape[-1] != b.logits.shape[-1]:
        raise ValueError(f"{other}: {a.logits.shape[-1]} and {b.logits.shape[-1]} outputs per sample")
    if not a.labelled:
        raise ValueError("runs cannot be compared on a split whose labels are hidden")


def comparison_table(comparison: Comparison, names: tuple[str, str]) -> RenderableType:
    """Return a rich table of both runs as A and B, their names above it."""
    sides, title = (comparison.a, comparison.b), f"{comparison.metric_name} and cost on {comparison.samples:,} samples"
    title = Text(f"{title}\nA  {names[0]}\nB  {names[1]}", style="italic")
    table = new_table(title, ("", "A", "B", "A - B", "95% interval"))
    value = _difference(comparison.value_difference, 1, ".4f")
    table.add_row("routed", *(f"{side.value:.4f}" for side in sides), *value, style="bold")
    cost = _difference(comparison.cost_difference, 100, ".1f", " pp")
    table.add_row("MACs, of dense", *(f"{side.macs_fraction:.1%}" for side in sides), *cost)
    table.add_row("MACs/sample", *(f"{side.macs / 1e6:,.1f} M" for side in sides), end_section=True)
    table.add_row("all narrow", *(f"{side.narrow:.4f}" if len(side.shares) > 1 else "-" for side in sides))
    table.add_row("all at full width", *(f"{side.top:.4f}" for side in sides), end_section=True)
    # Labels are widths, or exits such as "layer_2".
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
