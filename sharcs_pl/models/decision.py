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
    first = first_rungs(rule, router_logits, len(logits), logits.shape[1] - 1, torch).to(logits.device)
    if not rule.cascades:
        return Decision.at(first, logits)
    ran = torch.arange(logits.shape[1], device=logits.device) >= first[:, None]
    rungs = first_stop(stops_at(rule, certainties(rule, logits, first)) & ran)
    return Decision(first, rungs, answers(rule, logits, first)[rows, rungs], True, rule.routed)


RunTail = Callable[[Tensor | None, int], Tensor]  # rows [n] long (None: all) and a rung -> logits [n, C]


def run_given(rungs: Tensor, run: RunTail) -> Decision:
    """Run each sample on its rung of `rungs` [B] alone, those of one rung together."""
    groups = [(rung, (rungs == rung).nonzero().flatten()) for rung in rungs.unique().tolist()]
    if len(groups) == 1:
        return Decision(rungs, rungs, run(None, groups[0][0]))
    logits = torch.cat([run(rows, rung) for rung, rows in groups])
    return Decision(rungs, rungs, logits[torch.cat([rows for _, rows in groups]).argsort()])


def run_rule(rule: DecisionRule, first: Tensor, num_rungs: int, run: RunTail) -> Decision:
    """Run each sample from its rung of `first` [B] on, until the rule stops it, and no tail beyond that."""
    if not rule.cascades:
        return run_given(first, run)
    rungs, going = torch.full_like(first, num_rungs - 1), torch.ones_like(first, dtype=torch.bool)
    logits: Tensor | None = None
    for rung in range(num_rungs):
        rows = (going & (first <= rung)).nonzero().flatten()
        if not len(rows):
            continue
        found = run(None if len(rows) == len(first) else rows, rung)
        blank = found.new_zeros(len(first), num_rungs, found.shape[-1]) if logits is None else logits
        logits = blank.index_put((rows, torch.tensor(rung, device=rows.device)), found.to(blank.dtype))
        stops = stops_at(rule, certainties(rule, logits[rows].detach(), first[rows]))[:, rung]
        rungs[rows[stops]] = rung
        going[rows[stops]] = False
    assert logits is not None, "a batch has a sample"
    found = answers(rule, logits, first)[torch.arange(len(first), device=first.device), rungs]
    return Decision(first, rungs, found, True, rule.routed)
