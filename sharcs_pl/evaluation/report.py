"""The report of a run: routed, fixed-rung, random and oracle results of one set of predictions.

Legend: S samples, W rungs, C classes. MACs are multiply-adds per sample at its real token count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from sharcs_pl.core.version import __version__
from sharcs_pl.data.spec import TaskSpec, metric_name
from sharcs_pl.evaluation.metrics import compute_metric, compute_metrics, router_auc
from sharcs_pl.evaluation.predictions import Cost, Predictions

RANDOM_DRAWS = 100
PACKAGES = ("torch", "lightning", "transformers", "datasets", "torchmetrics", "hydra-core")


@dataclass(frozen=True)
class Point:
    """A metric and its cost, as ``macs`` per sample and as a fraction of the stock model's."""

    value: float
    macs: float
    macs_fraction: float


@dataclass(frozen=True)
class RungPoint(Point):
    """One rung over all samples; ``share`` of them is routed to it. ``layer`` is the place of an early exit, ``keep``
    the least probability of a token that is not skimmed; both are None elsewhere. ``title`` is the rung in words."""

    width: float = 1.0
    share: float = 0.0
    layer: int | None = None
    keep: float | None = None
    title: str = ""


@dataclass(frozen=True)
class RulePoint:
    """A rule at a budget, with thresholds chosen and read on different halves of the samples (see `halving`).

    Attributes: rule, one of `RULES` or ``random``; budget and macs_fraction, as fractions of dense, asked and spent;
    value of the metric; minus_full, its difference to the widest rung for all, and low and high, that difference's 95 %
    interval.
    """

    rule: str
    budget: float
    value: float
    macs_fraction: float
    minus_full: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """The end table of a run, as ``metrics.json`` stores it. ``rule`` is the rule in use; ``rules`` compares those that
    the model can have. ``positive`` is the class that f1 is about, where f1 is one of the metrics; ``kind`` is the kind
    of the ladder's rungs; ``agreement`` is the oracle that asks for the widest rung's answer, right or wrong."""

    task: str
    metric: str
    dense_macs: float
    routed: Point
    rungs: list[RungPoint]
    random: dict[str, float]
    oracle: Point | None
    regret: float | None
    router_auc: float | None
    all_metrics: dict[str, dict[str, dict[str, float]]]
    positive: str | None = None
    has_router: bool = False
    kind: str = "width"
    agreement: Point | None = None
    rule: str = "router"
    rules: list[RulePoint] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def metric_name(self) -> str:
        """The metric as it is shown."""
        return metric_name(self.metric, self.positive)

    @property
    def random_point(self) -> Point:
        """Return the rungs dealt to random samples: the mean over draws, at the mean cost of all deals. A deal picks
        samples for a rung whatever their lengths, so their mean cost is the rung's over all samples."""
        return Point(self.random["value"], self.random["macs"], self.random["macs_fraction"])

    def to_json(self) -> dict[str, Any]:
        """Return plain types, rungs narrow first, with the versions of the packages that matter."""
        plain = asdict(self)
        for key in ("positive", "agreement"):
            if plain[key] is None:
                del plain[key]
        del plain["has_router"], plain["kind"]
        if not self.rules:
            del plain["rule"], plain["rules"]  # exits and skipped tokens have other rules
        optional = ("layer", "keep")
        plain["rungs"] = [
            {key: x for key, x in rung.items() if key != "title" and (key not in optional or x is not None)}
            for rung in plain["rungs"]
        ]
        oracle = plain.pop("oracle")
        return plain.pop("extra") | {
            **plain,
            "oracle": oracle or {"value": None, "macs": None, "macs_fraction": None},
            "versions": {"sharcs-pl": __version__} | {name: version(name) for name in PACKAGES},
        }


def point_of(found: Predictions, metric: str, cost: Cost) -> Point:
    """Return the value and the cost of predictions by the rule in use."""
    spent = float(found.spent_macs(cost).mean())
    value = compute_metric(metric, found.routed_logits(), found.labels)
    return Point(value, spent, spent / float(cost.dense_macs(found.lengths.numpy()).mean()))


def evaluate(predictions: dict[str, Predictions], task: TaskSpec, cost: Cost, seed: int) -> Report:
    """Report on the first validation split; ``all_metrics`` covers every split.

    Args:
        predictions: one entry per validation split, the first one first.
        seed: seed of the random routing at the same shares, averaged over 100 draws.
    """
    first = predictions[task.validation[0]]
    metric, dense = task.metrics[0], float(cost.dense_macs(first.lengths.numpy()).mean())
    widths = cost.ladder.labels()
    shares = first.shares(len(widths))
    routed = point_of(first, metric, cost)
    fixed = [point_of(first.on(torch.full_like(first.rungs, rung)), metric, cost) for rung in range(len(widths))]
    oracle = point_of(first.on(first.oracle_rungs()), metric, cost) if task.kind.has_classes else None
    agreement = point_of(first.on(first.agreeing_rungs()), metric, cost) if task.kind.has_classes else None
    known = bool((first.difficulty >= 0).all()) and cost.has_router
    return Report(
        task=task.name,
        metric=metric,
        dense_macs=dense,
        routed=routed,
        rungs=[
            RungPoint(**asdict(p), width=r.width, share=s, layer=r.layer, keep=r.keep, title=r.title)
            for p, r, s in zip(fixed, cost.ladder.rungs(), shares, strict=True)
        ],
        random=_random_routing(first, metric, first.rung_macs(cost), dense, seed),
        oracle=oracle,
        regret=oracle.value - routed.value if oracle else None,
        router_auc=router_auc(first.router_logits, first.difficulty) if known else None,
        all_metrics={split: _all_metrics(p, task, widths) for split, p in predictions.items()},
        agreement=agreement,
        positive=task.positive,
        has_router=cost.has_router,
        kind=cost.ladder.kind,
        rule=first.rule,
    )


def _random_routing(
    predictions: Predictions, metric: str, macs: np.ndarray, dense: float, seed: int
) -> dict[str, float]:
    """Return mean and standard deviation of the metric when the rungs at which samples end are dealt to random samples,
    each of which runs on its rung alone. `macs` [S, W], `dense`: mean MACs."""
    generator = torch.Generator().manual_seed(seed)
    rungs = predictions.rungs
    spent = float(np.array(predictions.shares(macs.shape[1])) @ macs.mean(0))
    values = [
        compute_metric(
            metric, predictions.at(rungs[torch.randperm(len(rungs), generator=generator)]), predictions.labels
        )
        for _ in range(RANDOM_DRAWS)
    ]
    found = {"value": float(np.mean(values)), "std": float(np.std(values)), "draws": RANDOM_DRAWS}
    return found | {"macs": spent, "macs_fraction": spent / dense}


def _all_metrics(predictions: Predictions, task: TaskSpec, widths: list[str]) -> dict[str, dict[str, float]]:
    labels = predictions.labels
    rows = {"routed": compute_metrics(task.metrics, predictions.routed_logits(), labels)}
    for rung, width in enumerate(widths):
        rows[f"width {width}"] = compute_metrics(task.metrics, predictions.scores[:, rung], labels)
    return rows
