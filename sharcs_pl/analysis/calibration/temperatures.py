"""Temperatures that make the probabilities of every width comparable, fitted on labelled samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sharcs_pl.core.cascade import answers
from sharcs_pl.core.decision import DecisionRule

STEPS = 50  # of L-BFGS; one value per width, of a smooth and mostly convex loss
_LIMIT = 3.0  # of the temperature's logarithm, where samples without an error ask for 0


def fit_temperatures(form: DecisionRule, logits: Tensor, labels: Tensor) -> DecisionRule:
    """Return the rule with the temperatures that give its answers at all widths the least mean cross-entropy (Guo et
    al. 2017, arXiv 1706.04599), from `logits` [S, W, C] of classes and `labels` [S].

    Of a rule that averages they are the weights of the widths too: the classes are ranked by the sum of every logit
    divided by its width's temperature.
    """
    scores = logits.clone().float()  # such as inference mode left cannot be read by autograd
    first = torch.zeros(len(logits), dtype=torch.long)
    chosen = torch.zeros(logits.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([chosen], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = answers(form, scores / _bounded(chosen).exp()[:, None], first)
        total = cross_entropy(found.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return replace(form, temperatures=tuple(_bounded(chosen).exp().tolist()))


def _bounded(values: Tensor) -> Tensor:
    return _LIMIT * (values / _LIMIT).tanh()
