"""The answers of every rung to every sample of a split.

Legend: S samples, W rungs, C classes. MACs are multiply-adds per sample at its real token count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.core.exits import ExitCost
from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.skim import SkimCost
from sharcs_pl.data.spec import UNKNOWN_LABEL

Cost = CostModel | ExitCost | SkimCost


@dataclass(frozen=True)
class Predictions:
    """The answers of every rung to every sample of a split, in the order of uids; all on the CPU.

    Attributes: uids [S]; logits [S, W, C]; router_logits [S, W]; rungs [S], the router's choice; labels [S]; lengths
    [S] tokens; difficulty [S], -1 where unknown; macs [S, W] where the length does not tell them.
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
        """True if the split has labels; GLUE keeps its test labels to itself."""
        return not bool((self.labels == UNKNOWN_LABEL).all())

    def at(self, rungs: Tensor) -> Tensor:
        """Return the logits [S, C] when sample s runs on ``rungs[s]``."""
        return self.logits[torch.arange(len(rungs)), rungs]

    def routed_logits(self) -> Tensor:
        """Return the logits [S, C] of the routed model."""
        return self.at(self.rungs)

    def faulty(self) -> Tensor:
        """Return the uids of samples that some rung, or the router, answers with NaN or infinity."""
        fine = self.logits.isfinite().flatten(1).all(1) & self.router_logits.isfinite().all(1)
        return self.uids[~fine]

    def shares(self, num_rungs: int) -> list[float]:
        """Return the share of the samples routed to each rung."""
        return (torch.bincount(self.rungs, minlength=num_rungs) / len(self.rungs)).tolist()

    def rung_macs(self, cost: Cost) -> np.ndarray:
        """Return the MACs of every sample on every rung [S, W], as measured, else by its length."""
        return cost.rung_macs(self.lengths.numpy()) if self.macs is None else self.macs.numpy()

    def macs_fraction(self, cost: Cost) -> float:
        """Return the mean MACs of the routed model, as a fraction of the stock model's."""
        lengths = self.lengths.numpy()
        spent = self.rung_macs(cost)[np.arange(len(lengths)), self.rungs.numpy()]
        return float(spent.sum() / cost.dense_macs(lengths).sum())

    def oracle_rungs(self) -> Tensor:
        """Return the cheapest rung that is right, else the cheapest, [S]: the best any router could do for classes."""
        right = self.logits.argmax(-1) == self.labels[:, None]
        return right.int().argmax(-1)
