"""Decisions of a routed model: the widths that each sample runs on, and its answer.

Dimensions: `S` samples, `W` rungs, `C` labels (1: a regression).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharcs_pl.core.cascade import answers, certainties, first_rungs, stops_at
from sharcs_pl.core.decision import DecisionRule
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


def decide(rule: DecisionRule, logits: Tensor, router_logits: Tensor | None) -> Decision:
    """Return the decision for every sample from the `logits` [S, W, C] of every rung and `router_logits` [S, W]."""
    rows = torch.arange(len(logits), device=logits.device)
    first = first_rungs(rule, router_logits, len(logits), logits.shape[1] - 1, torch).to(
        logits.device, non_blocking=True
    )
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
