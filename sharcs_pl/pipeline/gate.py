"""The gate that a model in int8 must pass before it is kept: its answers to labelled texts, beside those in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.kinds import Kind, to_scores
from sharcs_pl.core.screen import Screen, new_table
from sharcs_pl.data.spec import Examples, TaskSpec, metric_name
from sharcs_pl.data.table import TokenTable
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.export_parts import batches_of
from sharcs_pl.inference.processor import has_int8

_BATCH = 32  # texts per batch of the gate
Answerer = Callable[[Batch], Answers]


@dataclass(frozen=True)
class QuantizationTexts:
    """The texts of a task that calibrate int8 parts, empty for one graph, and the labelled ones of the gate."""

    task: TaskSpec
    calibration: Examples | None
    validation: Examples


@dataclass(frozen=True)
class Gate:
    """What is measured: a model's rule and cost, and `label_thresholds` where outputs are labels of their own. `remedy`
    is what a refusal proposes."""

    task: TaskSpec
    table: TokenTable
    rule: DecisionRule
    cost: CostModel
    label_thresholds: Sequence[float] | None
    remedy: str

    def check(self, own: Answerer, int8: Answerer, max_drop: float) -> dict[str, Any]:
        """Print the table and return what is in it. Raise ``ValueError`` where the metric drops by more than
        `max_drop`."""
        rows = {"float32": answered(own, self.table), "int8": answered(int8, self.table)}
        if self.task.multi_label:
            rows = {
                name: replace(found, logits=to_scores(found.logits, self.label_thresholds))
                for name, found in rows.items()
            }
        found = {name: self._measured(answers, rows["float32"]) for name, answers in rows.items()}
        metric = metric_name(self.task.metric, self.task.positive)
        title = f"{self.task.name}: int8 and float32 on {len(self.table):,} texts"
        shown = new_table(title, ("", metric, *list(found["int8"])[1:]))
        for name, values in found.items():
            shown.add_row(name, *(f"{value:.4f}" for value in values.values()))
        Screen().print(shown)
        _warn_of_processor()
        drop = found["float32"]["value"] - found["int8"]["value"]
        if drop > max_drop:
            raise ValueError(f"quantize.max_drop={max_drop:g}: int8 lowers {metric} by {drop:.4f}; {self.remedy}")
        return {"task": self.task.name, "metric": metric, "samples": len(self.table), **found}

    def _measured(self, answers: Answers, base: Answers) -> dict[str, float]:
        """Return the metric of answers, how often label and last width are those of `base`, and the cost."""
        logits, labels = torch.from_numpy(answers.logits), torch.tensor(self.table.labels)
        macs = self.cost.decided_macs(self.rule, answers.lengths, answers.first, answers.rungs)
        return {
            "value": compute_metric(self.task.metric, logits, labels),
            "agreement": agreement(self.task.kind, answers, base),
            "routed alike": float((answers.rungs == base.rungs).mean()),
            "of dense MACs": float(macs.sum() / self.cost.dense_macs(answers.lengths).sum()),
        }


def answered(answer: Answerer, table: TokenTable) -> Answers:
    """Return the answers to all samples of a table, in their order."""
    found = Answers.join([answer(batch) for batch in batches_of(table, _BATCH)])
    order = found.index.argsort()
    return Answers(**{name: column[order] for name, column in vars(found).items()})


def agreement(kind: Kind, one: Answers, other: Answers) -> float:
    """Return the share of samples with the same label; of a regression, the correlation of the values."""
    if not kind.has_classes:
        return float(np.corrcoef(one.logits[:, 0], other.logits[:, 0])[0, 1])
    return float(kind.alike(one.logits, other.logits).mean())


def _warn_of_processor() -> None:
    if not has_int8():
        Screen(stderr=True, soft_wrap=True).print(
            "warning: this processor has no instructions for products of int8 (VNNI): int8 saves memory here, and "
            "hardly time; precision=float32 is the better choice on it"
        )
