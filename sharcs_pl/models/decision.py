"""Decisions of a routed model: the widths that each sample runs on, and its answer.

Dimensions: `S` samples, `W` rungs, `C` labels (1: a regression).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.models.router import choose_rungs
from sharcs_pl.models.stopping import first_stop


@dataclass(frozen=True)
class Decision:
    """The outcome of a rule. `first`, `rungs`: [S] long, the first and the last rung that a sample runs on; `logits`:
    [S, C], its answer, log-probabilities where several rungs are averaged; `cascades`, `routed`: of the rule."""

    first: Tensor
    rungs: Tensor
    logits: Tensor
    cascades: bool = False
    routed: bool = True

    @classmethod
    def at(cls, rungs: Tensor, logits: Tensor) -> Decision:
        """Return the decision where each sample runs on one of `rungs` [S] alone, from `logits` [S, W, C]."""
        return cls(rungs, rungs, logits[torch.arange(len(rungs), device=rungs.device), rungs])


def first_rungs(rule: DecisionRule, router_logits: Tensor | None, size: int, top: int) -> Tensor:
    """Return the rung that each of `size` samples begins at, [S] long, from `router_logits` [S, W] (None: no router).
    A rule that routes runs all at the `top` rung where there is no router."""
    if not rule.routed:
        return torch.zeros(size, dtype=torch.long, device=None if router_logits is None else router_logits.device)
    if router_logits is None:
        return torch.full((size,), top)
    return choose_rungs(router_logits.float(), rule.starts)


def answers(rule: DecisionRule, logits: Tensor, first: Tensor) -> Tensor:
    """Return what a sample that begins at `first` [S] answers when it stops at each rung, [S, W, C] float32, from
    `logits` [S, W, C]. Rungs before `first` mean nothing."""
    scores = _tempered(rule, logits.float())
    if not rule.average:
        return scores
    ran = (torch.arange(scores.shape[1], device=scores.device) >= first[:, None]).unsqueeze(-1)
    scores = scores if scores.shape[2] == 1 else scores.log_softmax(-1)
    return torch.where(ran, scores, 0.0).cumsum(1) / ran.cumsum(1).clamp(min=1)


def certainties(rule: DecisionRule, logits: Tensor, first: Tensor) -> Tensor:
    """Return how sure a sample that begins at `first` [S] is of its answer at each rung, [S, W] float32, from `logits`
    [S, W, C]. Rungs before `first` mean nothing."""
    found = answers(rule, logits, first)
    if rule.certainty == "agreement":
        return _agreement(found, first)
    return CERTAINTY[rule.certainty](found.softmax(-1))


def _tempered(rule: DecisionRule, scores: Tensor) -> Tensor:
    """Return the logits [S, W, C] of classes divided by each rung's temperature."""
    if rule.temperatures is None:
        return scores
    return scores / _constant(rule.temperatures[: scores.shape[1]], scores)[:, None]


def _constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return the values in the dtype and on the device of another tensor; a GPU is not waited for, as `new_tensor`
    does."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _agreement(found: Tensor, first: Tensor) -> Tensor:
    """Return minus the change of a value, or -1 for another class, since the rung before; minus infinity at `first`."""
    classes = found.shape[2] > 1
    values = found.argmax(-1).float() if classes else found[..., 0]
    change = -(values[:, 1:] - values[:, :-1]).abs()
    change = torch.cat([change.new_full((len(change), 1), -torch.inf), change.clamp(min=-1) if classes else change], 1)
    alone = torch.arange(found.shape[1], device=found.device) <= first[:, None]
    return change.masked_fill(alone, -torch.inf)


def _probability(probabilities: Tensor) -> Tensor:
    return probabilities.amax(-1)


def _margin(probabilities: Tensor) -> Tensor:
    best = probabilities.topk(2, -1).values
    return best[..., 0] - best[..., 1]


def _entropy(probabilities: Tensor) -> Tensor:
    entropy = torch.special.entr(probabilities).sum(-1)
    return 1 - entropy / torch.tensor(float(probabilities.shape[-1])).log()


CERTAINTY = {"probability": _probability, "margin": _margin, "entropy": _entropy}  # [S, W, C] -> [S, W]


def stops_at(rule: DecisionRule, certainty: Tensor) -> Tensor:
    """Return True where a sample that ran on a rung stops there, bool [S, W], from `certainties` [S, W]."""
    assert rule.stops is not None
    return certainty >= _constant((*rule.stops, -torch.inf)[: certainty.shape[1]], certainty)


def decide(rule: DecisionRule, logits: Tensor, router_logits: Tensor | None) -> Decision:
    """Return the decision for every sample from the `logits` [S, W, C] of every rung and `router_logits` [S, W]."""
    rows = torch.arange(len(logits), device=logits.device)
    first = first_rungs(rule, router_logits, len(logits), logits.shape[1] - 1).to(logits.device, non_blocking=True)
    if not rule.cascades:
        return Decision.at(first, logits)
    ran = torch.arange(logits.shape[1], device=logits.device) >= first[:, None]
    rungs = first_stop(stops_at(rule, certainties(rule, logits, first)) & ran)
    return Decision(first, rungs, answers(rule, logits, first)[rows, rungs], True, rule.routed)


RunTail = Callable[[Tensor | None, int], Tensor]  # rows [n] long (None: all) and a rung -> logits [n, C]


def run_given(rungs: Tensor, run: RunTail) -> Decision:
    """Run each sample on its rung of `rungs` [B] alone, those of one rung together. A GPU is waited for once, to learn
    how many samples each rung has."""
    order = rungs.argsort(stable=True)
    present, sizes = rungs.cpu().unique(return_counts=True)
    if len(present) == 1:
        return Decision(rungs, rungs, run(None, int(present)))
    groups = zip(order.split(sizes.tolist()), present.tolist(), strict=True)
    logits = torch.cat([run(rows, rung) for rows, rung in groups])
    return Decision(rungs, rungs, logits[order.argsort()])


def run_rule(rule: DecisionRule, first: Tensor, num_rungs: int, run: RunTail) -> Decision:
    """Run each sample from its rung of `first` [B] on, until the rule stops it, and no tail beyond that. A GPU is
    waited for once where a router decides, and once after each tail of a cascade but the last."""
    if not rule.cascades:
        return run_given(first, run)
    begins = first.cpu() if rule.routed else torch.zeros(len(first), dtype=torch.long)
    rungs, going = torch.full_like(begins, num_rungs - 1), torch.ones_like(begins, dtype=torch.bool)
    logits: Tensor | None = None
    for rung in range(num_rungs):
        here = (going & (begins <= rung)).nonzero().flatten()
        if not len(here):
            continue
        rows = here.to(first.device, non_blocking=True)
        found = run(None if len(rows) == len(first) else rows, rung)
        blank = found.new_zeros(len(first), num_rungs, found.shape[-1]) if logits is None else logits
        logits = blank.index_put((rows, torch.full_like(rows, rung)), found.to(blank.dtype))
        if rung < num_rungs - 1:
            stops = stops_at(rule, certainties(rule, logits[rows].detach(), first[rows]))[:, rung].cpu()
            rungs[here[stops]] = rung
            going[here[stops]] = False
    assert logits is not None, "a batch has a sample"
    ended = rungs.to(first.device, non_blocking=True)
    found = answers(rule, logits, first)[torch.arange(len(first), device=first.device), ended]
    return Decision(first, ended, found, True, rule.routed)
