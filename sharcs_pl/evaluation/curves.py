"""``curve.csv``: the operating points that one training leaves, and the controls to compare routing with.

Rows of the run's own rule carry its method's name; rows of controls carry ``<method>/<control>``: ``width`` or ``exit``
(every sample at the same), ``random`` (the shares of the rule dealt to random samples), ``oracle`` (the cheapest that
is right), ``cascade`` (narrow first, wider when unsure; it pays for every width it tries).

Legend: S samples, W rungs or exits, C classes. MACs are multiply-adds per sample.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.core.files import atomic_file
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.sweeps import cascade

DRAWS = 20  # of random routing, at each point


@dataclass(frozen=True)
class CurveRow:
    """One operating point; ``threshold`` has the unit of its key, and is None where the point has none."""

    method: str
    point: str
    threshold: float | None
    value: float
    macs: float
    macs_fraction: float


@dataclass(frozen=True)
class Curves:
    """The rows of one model on one labelled split, for a method's name and the task's first metric."""

    method: str
    metric: str
    model: Any
    predictions: Predictions

    def rows(self, seed: int) -> list[CurveRow]:
        """Return all rows; ``seed`` draws the random routing."""
        swept = self.model.sweep(self.predictions.logits, self.predictions.router_logits)
        if not swept:
            return [*self._fixed(""), *(self.controls() if len(self.model.ladder) > 1 else ())]
        found = [self._row("", "trained", None, self.predictions.rungs)]
        found += [self._row("", f"point {i}", x.threshold, x.rungs) for i, x in enumerate(swept)]
        found += self._fixed(f"/{self.model.ladder.control}")
        generator = torch.Generator().manual_seed(seed)
        found += [self._random(f"point {i}", x.rungs, generator) for i, x in enumerate(swept)]
        return [*found, *self.controls()]

    def controls(self) -> Iterator[CurveRow]:
        """Yield the controls that need no training, the oracle and the cascade; neither is defined for a regression."""
        logits, cost = self.predictions.logits, self.model.cost
        if logits.shape[2] == 1:
            return
        yield self._row("/oracle", "oracle", None, self.predictions.oracle_rungs())
        spent = cost.tried_macs(self.predictions.lengths.numpy())
        if spent is not None and self.predictions.macs is None:  # a tail's own cost is not measured
            for i, x in enumerate(cascade(logits)):
                yield self._row("/cascade", f"point {i}", x.threshold, x.rungs, spent)

    def _fixed(self, control: str) -> Iterator[CurveRow]:
        for rung, label in enumerate(self.model.ladder.labels()):
            name = f"width {label}" if self.model.ladder.kind == "width" else label
            yield self._row(control, name, None, torch.full_like(self.predictions.rungs, rung))

    def _random(self, point: str, rungs: Tensor, generator: torch.Generator) -> CurveRow:
        """Return the mean over draws, at the mean cost over samples at those shares."""
        each = [rungs[torch.randperm(len(rungs), generator=generator)] for _ in range(DRAWS)]
        rows = [self._row("/random", point, None, dealt) for dealt in each]
        means = {
            name: float(np.mean([getattr(row, name) for row in rows])) for name in ("value", "macs", "macs_fraction")
        }
        return CurveRow(f"{self.method}/random", point, None, **means)

    def _row(
        self, control: str, point: str, threshold: float | None, rungs: Tensor, macs: np.ndarray | None = None
    ) -> CurveRow:
        lengths, found = self.predictions.lengths.numpy(), self.predictions
        macs = found.rung_macs(self.model.cost) if macs is None else macs
        spent = float(macs[np.arange(len(lengths)), rungs.numpy()].mean())
        value = compute_metric(self.metric, found.at(rungs), found.labels)
        fraction = spent / float(self.model.cost.dense_macs(lengths).mean())
        return CurveRow(self.method + control, point, threshold, value, spent, fraction)


def write_curve(path: Path, rows: list[CurveRow]) -> None:
    """Write the rows as a csv file, whole; a missing threshold is left empty."""
    with atomic_file(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(CurveRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
