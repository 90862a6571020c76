"""The answers of every rung to every sample of a split.

Legend: S samples, W rungs, C classes. MACs are multiply-adds per sample at its real token count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.core.exits import ExitCost
from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.kinds import Kind, kind_of_labels, to_scores
from sharcs_pl.core.skim import SkimCost
from sharcs_pl.data.spec import UNKNOWN_LABEL
from sharcs_pl.models.decision import Decision

Cost = CostModel | ExitCost | SkimCost


@dataclass(frozen=True)
class Predictions:
    """The answers of every rung to every sample of a split, in the order of uids; all on the CPU.

    Attributes: uids [S]; logits [S, W, C]; router_logits [S, W]; rungs [S], where the rule in use ends; labels [S];
    lengths [S] tokens; difficulty [S], -1 where unknown; macs [S, W] where the length does not tell them. Of a cascade
    also first [S], the rung at which a sample begins, and answers [S, C]; elsewhere None, since a sample runs on its
    rung alone. routed is False if the rule asks no router. Of several labels per sample, labels are [S, C] and
    thresholds the probability of each from which on it is given, None for 0.5.
    """

    uids: Tensor
    logits: Tensor
    router_logits: Tensor
    rungs: Tensor
    labels: Tensor
    lengths: Tensor
    difficulty: Tensor
    macs: Tensor | None = None
    first: Tensor | None = None
    answers: Tensor | None = None
    routed: bool = True
    thresholds: tuple[float, ...] | None = None

    @classmethod
    def gather(cls, batches: Sequence[Predictions]) -> Predictions:
        """Join the predictions of several batches, and sort them by uid."""
        names = [field.name for field in fields(cls) if field.name not in ("routed", "thresholds")]
        columns = {name: [getattr(batch, name) for batch in batches] for name in names}
        joined: dict[str, Any] = {
            name: None if parts[0] is None else torch.cat(parts) for name, parts in columns.items()
        }
        found = cls(**joined, routed=batches[0].routed, thresholds=batches[0].thresholds)
        return found.select(found.uids.argsort())

    def to(self, device: torch.device | str) -> Predictions:
        """Return the predictions on a device."""
        return self._each(lambda x: x.to(device))

    def _each(self, turn: Callable[[Tensor], Tensor]) -> Predictions:
        values: dict[str, Any] = {name: turn(x) if isinstance(x, Tensor) else x for name, x in vars(self).items()}
        return Predictions(**values)

    def select(self, rows: Tensor) -> Predictions:
        """Return the predictions of the samples `rows`, [n] long."""
        return self._each(lambda x: x[rows])

    def on(self, rungs: Tensor) -> Predictions:
        """Return the predictions with every sample on its rung of `rungs` [S] alone."""
        return replace(self, rungs=rungs, first=None, answers=None)

    def decided(self, decision: Decision) -> Predictions:
        """Return the predictions by another decision."""
        if not decision.cascades:
            return replace(self.on(decision.rungs), routed=decision.routed)
        found = {"first": decision.first, "answers": decision.logits, "routed": decision.routed}
        return replace(self, rungs=decision.rungs, **found)

    @property
    def kind(self) -> Kind:
        """The kind of the task."""
        return kind_of_labels(self.labels, self.logits.shape[2])

    @property
    def scores(self) -> Tensor:
        """The logits [S, W, C] by which answers are told: those of labels less their thresholds, so that one is given
        at 0 and above."""
        return to_scores(self.logits, self.thresholds)

    @property
    def rule(self) -> str:
        """The name of the rule in use, one of `RULES`."""
        if self.first is None:
            return "router"
        return "router+cascade" if self.routed else "cascade"

    @property
    def labelled(self) -> bool:
        """True if the split has labels; GLUE keeps its test labels to itself."""
        return not bool((self.labels == UNKNOWN_LABEL).all())

    def at(self, rungs: Tensor) -> Tensor:
        """Return the `scores` [S, C] when sample s runs on ``rungs[s]``."""
        return to_scores(self._logits_at(rungs), self.thresholds)

    def _logits_at(self, rungs: Tensor) -> Tensor:
        return self.logits[torch.arange(len(rungs)), rungs]

    def answered(self) -> Tensor:
        """Return the logits [S, C] of the routed model, log-probabilities where a cascade averages."""
        return self._logits_at(self.rungs) if self.answers is None else self.answers

    def routed_logits(self) -> Tensor:
        """Return the `scores` [S, C] of the routed model, log-probabilities where a cascade averages."""
        return to_scores(self.answered(), self.thresholds)

    def faulty(self) -> Tensor:
        """Return the uids of samples that some rung, or the router, answers with NaN or infinity."""
        fine = self.logits.isfinite().flatten(1).all(1) & self.router_logits.isfinite().all(1)
        return self.uids[~fine]

    def shares(self, num_rungs: int) -> list[float]:
        """Return the share of the samples that end on each rung."""
        return (torch.bincount(self.rungs, minlength=num_rungs) / len(self.rungs)).tolist()

    def rung_macs(self, cost: Cost) -> np.ndarray:
        """Return the MACs of every sample on every rung [S, W], as measured, else by its length."""
        return cost.rung_macs(self.lengths.numpy()) if self.macs is None else self.macs.numpy()

    def spent_macs(self, cost: Cost) -> np.ndarray:
        """Return the MACs of every sample by the rule in use [S]; a cascade pays for each rung that it tries."""
        if self.first is None:
            macs = self.rung_macs(cost)
        else:
            assert isinstance(cost, CostModel)
            macs = cost.cascade_macs(self.lengths.numpy(), self.first.numpy(), self.routed)
        return macs[np.arange(len(self.lengths)), self.rungs.numpy()]

    def macs_fraction(self, cost: Cost) -> float:
        """Return the mean MACs of the routed model, as a fraction of the stock model's."""
        return float(self.spent_macs(cost).sum() / cost.dense_macs(self.lengths.numpy()).sum())

    def oracle_rungs(self) -> Tensor:
        """Return the cheapest rung that is right, else the cheapest, [S]: the best any router could do for classes. Of
        several labels, the cheapest of those with the most right ones."""
        return self.kind.quality(self.scores, self.labels).argmax(-1)

    def agreeing_rungs(self) -> Tensor:
        """Return the cheapest rung that answers as the widest does, [S]: an oracle without luck in the labels."""
        return self.kind.alike(self.scores, self.scores[:, -1:]).int().argmax(-1)
