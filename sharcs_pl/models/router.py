"""The router and the two losses of a step (SHARCS, arXiv 2310.12126, section 3).

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharcs_pl.core.arrays import at_least_float32
from sharcs_pl.core.kinds import Kind, Reduction, kind_of_labels


def masked_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean [B, D] of `hidden` [B, L, D] over the real tokens of `attention_mask` [B, L] (1 real, 0 padding).

    Padding has no effect, so the vector of a text does not depend on its batch. A row without real tokens gives zeros.
    """
    weight = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


class Router(nn.Module):
    """The router, which predicts suitable rungs by a mean over real tokens, Linear, ReLU, Linear.

    `forward` takes the trunk's output [B, L, D] and the mask [B, L], and returns one logit per rung [B, W]. A sample
    may belong to several rungs, so the logits go through sigmoids, not a softmax.
    """

    def __init__(self, hidden_size: int, router_hidden_size: int, num_rungs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, router_hidden_size)
        self.output = nn.Linear(router_hidden_size, num_rungs)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        pooled = masked_mean(hidden, attention_mask)
        return self.output(F.relu(self.dense(pooled)))


def router_loss(router_logits: Tensor, memberships: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return the multi-label binary cross-entropy of `router_logits` [B, W] and `memberships` [B, W] (0 or 1).

    The mean is taken over the rungs, then over the batch; `reduction="none"` gives the batch's losses [B].
    """
    scores = at_least_float32(router_logits)
    loss = F.binary_cross_entropy_with_logits(scores, memberships.to(scores.dtype), reduction="none").mean(-1)
    return loss.mean() if reduction == "mean" else loss


def task_loss(logits: Tensor, labels: Tensor, num_labels: int, reduction: Reduction = "mean") -> Tensor:
    """Return the cross-entropy of `logits` [B, C] and class indices [B], the squared error to values [B] if
    `num_labels` is 1 (a regression task), or the binary cross-entropy of labels [B, C], the mean over labels.
    `reduction="none"` gives the losses of the batch [B]."""
    return kind_of_labels(labels, num_labels).loss(logits, labels, reduction)


def loss_of(kind: Kind, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean `task_loss` of a model's `logits` [B, C]. Raise `ValueError` for labels that do not fit its kind
    of task: [B, C] where its config has one class per text, or [B] where it has several labels."""
    if kind_of_labels(labels, logits.shape[-1]) is kind:
        return kind.loss(logits, labels)
    shape = f"labels of the shape {tuple(labels.shape)}"
    if kind.multi_label:
        raise ValueError(
            f"{shape}: model.config.problem_type is {kind.problem_type}; give 0 or 1 for each label, [B, C]"
        )
    raise ValueError(
        f"{shape} are several labels per text, the model answers one class; set "
        'model.config.problem_type="multi_label_classification", or give problem_type= to from_encoder'
    )


def warn_of_untrained(model: Any, rungs: Any, memberships: Tensor | None) -> None:
    """Warn, once, in a pass of training that gives the router nothing to learn and lets it choose the widths."""
    routes = model.router is not None and rungs is None and memberships is None
    if routes and model.training and torch.is_grad_enabled():
        warnings.warn(
            "this training does not train the router, which chooses the widths; train with SharcsTrainer or sharcs "
            "train, or give memberships",
            stacklevel=1,  # this line, whoever calls: Python shows it once
        )


def given_rungs(rungs: int | Tensor, size: int, top: int) -> Tensor:
    """Return the rung of each of `size` samples, [B] long, from one rung for all or one per sample. Raise `ValueError`
    for a rung that is not on a ladder of 0 to `top`."""
    if isinstance(rungs, int):  # without a tensor, whose values a compiled graph cannot check
        if not 0 <= rungs <= top:
            raise ValueError(f"rungs: {rungs}; the ladder has 0 to {top}")
        return torch.full((size,), rungs)
    given = torch.as_tensor(rungs)
    if given.is_floating_point() or given.shape not in ((), (size,)):
        raise ValueError(f"rungs: {given.dtype} of shape {tuple(given.shape)}; give an int, or one per sample ({size})")
    if ((given < 0) | (given > top)).any():
        raise ValueError(f"rungs: {given.tolist()}; the ladder has 0 to {top}")
    return given.long().expand(size)
