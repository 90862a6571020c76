"""What routing gained and what it cost: routed, fixed-rung, random and oracle results of one set of predictions.

Legend: S samples, W rungs, C classes. MACs are multiply-adds per sample at its real token count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl import __version__
from sharcs_pl.core.exits import ExitCost
from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.skim import SkimCost
from sharcs_pl.data.spec import UNKNOWN_LABEL, TaskSpec, metric_name
from sharcs_pl.training.metrics import compute_metric, compute_metrics, router_auc

Cost = CostModel | ExitCost | SkimCost
RANDOM_DRAWS = 100
PACKAGES = ("torch", "lightning", "transformers", "datasets", "torchmetrics", "hydra-core")


@dataclass(frozen=True)
class Predictions:
    """Every rung's answer to every sample of a split, in the order of uids; all on the CPU.

    Attributes: uids [S]; logits [S, W, C]; router_logits [S, W]; rungs [S], the router's choice; labels [S];
    lengths [S] tokens; difficulty [S], -1 where unknown; macs [S, W] where the length does not tell them.
    """

    uids: Tensor
    logits: Tensor
    router_logits: Tensor
    rungs: Tensor
    labels: Tensor
    lengths: Tensor
    difficulty: Tensor
    macs: Tensor | None = None

    @classmethod
    def gather(cls, rows: Iterable[tuple[Tensor, ...]]) -> Predictions:
        """Join the rows of several batches, each in field order, and sort them by uid."""
        columns = [torch.cat(parts) for parts in zip(*rows, strict=True)]
        order = columns[0].argsort()
        return cls(*(column[order] for column in columns))

    @property
    def labelled(self) -> bool:
        """Whether the split has labels; GLUE keeps those of its test splits to itself."""
        return not bool((self.labels == UNKNOWN_LABEL).all())

    def at(self, rungs: Tensor) -> Tensor:
        """Logits [S, C] when sample s runs on ``rungs[s]``."""
        return self.logits[torch.arange(len(rungs)), rungs]

    def routed_logits(self) -> Tensor:
        """Logits [S, C] of the routed model."""
        return self.at(self.rungs)

    def faulty(self) -> Tensor:
        """The uids of samples that some rung, or the router, answers with NaN or infinity."""
        fine = self.logits.isfinite().flatten(1).all(1) & self.router_logits.isfinite().all(1)
        return self.uids[~fine]

    def shares(self, num_rungs: int) -> list[float]:
        """Share of the samples routed to each rung."""
        return (torch.bincount(self.rungs, minlength=num_rungs) / len(self.rungs)).tolist()

    def rung_macs(self, cost: Cost) -> np.ndarray:
        """MACs of every sample on every rung [S, W]: as measured, else by its length."""
        return cost.rung_macs(self.lengths.numpy()) if self.macs is None else self.macs.numpy()

    def macs_fraction(self, cost: Cost) -> float:
        """Mean MACs of the routed model over those of the stock one."""
        lengths = self.lengths.numpy()
        spent = self.rung_macs(cost)[np.arange(len(lengths)), self.rungs.numpy()]
        return float(spent.sum() / cost.dense_macs(lengths).sum())

    def oracle_rungs(self) -> Tensor:
        """[S] the cheapest rung that is right, else the cheapest: the best any router could do (classification)."""
        right = self.logits.argmax(-1) == self.labels[:, None]
        return right.int().argmax(-1)


@dataclass(frozen=True)
class Point:
    """A metric and its cost: ``macs`` per sample and as a fraction of the stock model's."""

    value: float
    macs: float
    macs_fraction: float


@dataclass(frozen=True)
class RungPoint(Point):
    """One rung over all samples; ``share`` of them is routed to it. ``layer``: where an early exit is,
    ``keep``: the least probability of a token that is not skimmed; None where there is no such thing."""

    width: float = 1.0
    share: float = 0.0
    layer: int | None = None
    keep: float | None = None


@dataclass(frozen=True)
class Report:
    """The end table of a run, as ``metrics.json`` stores it. ``positive``: the class that f1 is about, where it is one
    of the metrics."""

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
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def metric_name(self) -> str:
        """The metric as it is shown."""
        return metric_name(self.metric, self.positive)

    @property
    def random_point(self) -> Point:
        """The router's choices dealt to random samples: the mean over draws, at the mean cost of all deals. A deal
        sends a share of the samples to a rung whatever their lengths, so that costs what the rung costs all samples."""
        macs = sum(rung.share * rung.macs for rung in self.rungs)
        return Point(self.random["value"], macs, macs / self.dense_macs)

    def to_json(self) -> dict[str, Any]:
        """Plain types, rungs narrow first, with the versions of the packages that matter."""
        plain = asdict(self)
        if self.positive is None:
            del plain["positive"]
        plain.pop("has_router")
        plain["random"] |= {"macs": self.random_point.macs, "macs_fraction": self.random_point.macs_fraction}
        optional = ("layer", "keep")
        plain["rungs"] = [
            {key: x for key, x in rung.items() if key not in optional or x is not None} for rung in plain["rungs"]
        ]
        oracle = plain.pop("oracle")
        return plain.pop("extra") | {
            **plain,
            "oracle": oracle or {"value": None, "macs": None, "macs_fraction": None},
            "versions": {"sharcs-pl": __version__} | {name: version(name) for name in PACKAGES},
        }


def evaluate(predictions: dict[str, Predictions], task: TaskSpec, cost: Cost, seed: int) -> Report:
    """Report on the first validation split; ``all_metrics`` covers every split.

    Args:
        predictions: one entry per validation split, the first one first.
        seed: of the random routing at the same shares, averaged over 100 draws.
    """
    first = predictions[task.validation[0]]
    metric, labels = task.metrics[0], first.labels
    lengths = first.lengths.numpy()
    macs, dense = first.rung_macs(cost), float(cost.dense_macs(lengths).mean())

    def point(rungs: Tensor) -> Point:
        spent = float(macs[np.arange(len(rungs)), rungs.numpy()].mean())
        return Point(compute_metric(metric, first.at(rungs), labels), spent, spent / dense)

    shares = first.shares(macs.shape[1])
    fixed = [point(torch.full_like(first.rungs, rung)) for rung in range(macs.shape[1])]
    widths = cost.ladder.labels()
    layers = cost.ladder.layers if isinstance(cost, ExitCost) else [None] * len(shares)
    keeps = cost.ladder.thresholds if isinstance(cost, SkimCost) else [None] * len(shares)
    routed = point(first.rungs)
    oracle = point(first.oracle_rungs()) if task.labels else None
    known = bool((first.difficulty >= 0).all()) and cost.has_router
    return Report(
        task=task.name,
        metric=metric,
        dense_macs=dense,
        routed=routed,
        rungs=[
            RungPoint(**asdict(p), width=float(w), share=s, layer=layer, keep=keep)
            for p, w, s, layer, keep in zip(fixed, cost.ladder.widths, shares, layers, keeps, strict=True)
        ],
        random=_random_routing(first, metric, seed),
        oracle=oracle,
        regret=oracle.value - routed.value if oracle else None,
        router_auc=router_auc(first.router_logits, first.difficulty) if known else None,
        all_metrics={split: _all_metrics(p, task, widths) for split, p in predictions.items()},
        positive=task.positive,
        has_router=cost.has_router,
    )


def _random_routing(predictions: Predictions, metric: str, seed: int) -> dict[str, float]:
    """Mean and standard deviation of the metric when the router's choices are dealt to random samples."""
    generator = torch.Generator().manual_seed(seed)
    rungs = predictions.rungs
    values = [
        compute_metric(
            metric, predictions.at(rungs[torch.randperm(len(rungs), generator=generator)]), predictions.labels
        )
        for _ in range(RANDOM_DRAWS)
    ]
    return {"value": float(np.mean(values)), "std": float(np.std(values)), "draws": RANDOM_DRAWS}


def _all_metrics(predictions: Predictions, task: TaskSpec, widths: list[str]) -> dict[str, dict[str, float]]:
    labels = predictions.labels
    rows = {"routed": compute_metrics(task.metrics, predictions.routed_logits(), labels)}
    for rung, width in enumerate(widths):
        rows[f"width {width}"] = compute_metrics(task.metrics, predictions.logits[:, rung], labels)
    return rows
