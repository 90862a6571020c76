"""A pair of separate models as a cascade: the small one answers where it is sure, else the full one starts afresh.

This is the cascade without a shared trunk, as CascadeBERT has it (Li et al., Findings of EMNLP 2021, arXiv 2012.14682,
section 3): a text that is handed on costs both models. Its threshold is chosen on one half of the texts and read on the
other, by the code that reads the other rules.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sharcs_pl.core.files import write_text
from sharcs_pl.evaluation.bootstrap import Statistic, resampled_metric
from sharcs_pl.evaluation.halving import HALVINGS, HalvedRule, Halves

ANSWERS = "answers.csv"
COLUMNS = ("uid", "label", "prediction", "confidence", "macs")
THRESHOLDS = 41


def keep_answers(run: Path, target: Path) -> None:
    """Write the answers of a classifier's run, without its texts, to ``answers.csv``."""
    with (run / "predictions.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if "confidence" in rows[0]:
        target.mkdir(parents=True, exist_ok=True)
        lines = [",".join(COLUMNS), *(",".join(row[name] for name in COLUMNS) for row in rows)]
        write_text(target / ANSWERS, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class _Setting:
    """A threshold, as `HalvedRule` reads it."""

    threshold: float
    metric: Statistic
    spent: np.ndarray
    dense: np.ndarray


def pair_points(small: Path, full: Path, metric: str, budgets: Sequence[float]) -> list[tuple[float, float]]:
    """Return (cost as a fraction of the full model's, value) of a pair at each budget, from the kept answers of both
    runs; nothing where one has none, as in regression."""
    if not (small / ANSWERS).exists() or not (full / ANSWERS).exists():
        return []
    quick, sure = _read(small), _read(full)
    assert quick["uid"] == sure["uid"], (small, full)
    names = sorted({*sure["label"], *sure["prediction"], *quick["prediction"]})
    labels, first, second = (
        torch.tensor([names.index(each) for each in column])
        for column in (sure["label"], quick["prediction"], sure["prediction"])
    )
    confidence = torch.tensor([float(each) for each in quick["confidence"]])
    cheap, dear = (np.array([float(each) for each in column]) for column in (quick["macs"], sure["macs"]))
    settings = []
    for threshold in confidence.quantile(torch.linspace(0, 1, THRESHOLDS)).tolist():
        on = confidence < threshold
        answers = F.one_hot(torch.where(on, second, first), len(names)).float()
        spent = cheap + np.where(on.numpy(), dear, 0.0)
        settings.append(_Setting(threshold, resampled_metric(metric, answers, labels), spent, dear))
    read: Any = settings
    rule = HalvedRule(read, Halves.of(len(labels), HALVINGS, seed=1))
    readings = [rule.read(budget) for budget in budgets]
    return [(float(reading.costs.mean()), float(reading.values.mean())) for reading in readings]


def _read(folder: Path) -> dict[str, list[str]]:
    with (folder / ANSWERS).open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["uid"]))
    return {name: [row[name] for row in rows] for name in COLUMNS}
