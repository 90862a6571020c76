"""The metrics by name, computed from logits by torchmetrics."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
    multilabel_f1_score,
)

from sharcs_pl.core.kinds import MULTI_LABEL, kind_of_labels


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return multiclass_accuracy(logits.argmax(-1), labels, num_classes=logits.shape[-1], average="micro")


def _f1(logits: Tensor, labels: Tensor) -> Tensor:
    return binary_f1_score(logits.argmax(-1), labels)


def _macro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    if kind_of_labels(labels, logits.shape[-1]).multi_label:
        return _label_f1(logits, labels, "macro")
    return multiclass_f1_score(logits.argmax(-1), labels, num_classes=logits.shape[-1], average="macro")


def _matthews(logits: Tensor, labels: Tensor) -> Tensor:
    answers = logits.argmax(-1)
    if answers.unique().numel() < 2 or labels.unique().numel() < 2:
        return torch.zeros(())  # torchmetrics smooths a constant prediction to a value that is not 0
    return multiclass_matthews_corrcoef(logits.argmax(-1), labels, num_classes=logits.shape[-1])


def _label_f1(scores: Tensor, labels: Tensor, average: Literal["micro", "macro"]) -> Tensor:
    return multilabel_f1_score((scores >= 0).int(), labels.int(), num_labels=scores.shape[-1], average=average)


def _micro_f1(scores: Tensor, labels: Tensor) -> Tensor:
    return _label_f1(scores, labels, "micro")


def _exact_match(scores: Tensor, labels: Tensor) -> Tensor:
    return (MULTI_LABEL.quality(scores, labels) >= 1).float().mean()


def _hamming(scores: Tensor, labels: Tensor) -> Tensor:
    return MULTI_LABEL.quality(scores, labels).mean()


def _pearson(logits: Tensor, labels: Tensor) -> Tensor:
    return pearson_corrcoef(logits[:, 0], labels.float())


def _spearman(logits: Tensor, labels: Tensor) -> Tensor:
    return spearman_corrcoef(logits[:, 0], labels.float())


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
    "micro_f1": _micro_f1,
    "exact_match": _exact_match,
    "hamming": _hamming,
    "pearson": _pearson,
    "spearman": _spearman,
}


def compute_metric(name: str, logits: Tensor, labels: Tensor) -> float:
    """Return one metric of logits [S, C] against labels [S], in [0, 1] or [-1, 1]; constant answers correlate 0. Of
    several labels [S, C], each is given at 0 and above (see `to_scores`); hamming is the share of right labels,
    exact_match that of samples with all labels right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The variance of predictions or target is close to zero")
        value = METRICS[name](logits.float(), labels).item()
    return 0.0 if value != value else value


def compute_metrics(names: Iterable[str], logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return several metrics of the same logits [S, C], in the order of ``names``."""
    return {name: compute_metric(name, logits, labels) for name in names}


def router_auc(router_logits: Tensor, difficulty: Tensor) -> float | None:
    """Return the AUROC of 1 - P(rung 0) for the samples of positive planted difficulty, in [0, 1].

    P is the softmax over rungs, which orders samples as the routing decision does. The result is ``None`` when the
    samples are all easy or all hard.

    Args:
        router_logits: [S, W].
        difficulty: [S] planted difficulty, 0 for easy.
    """
    hard = (difficulty > 0).long()
    if hard.min() == hard.max():
        return None
    return binary_auroc(1.0 - torch.softmax(router_logits.double(), -1)[:, 0], hard).item()
