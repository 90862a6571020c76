"""The operating points of a trained model, which are settings of a rule with the decision that each gives every sample.

Dimensions: `S` samples, `W` rungs or exits, `C` labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from sharcs_pl.core.decision import NEVER, DecisionRule, default_certainty
from sharcs_pl.models.decision import Decision, certainties, decide
from sharcs_pl.models.stopping import StopRule, first_stop

LEVELS = 25  # of one threshold
COMBINATIONS = 128  # of the thresholds of several widths


@dataclass(frozen=True)
class SweptPoint:
    """A setting with its decision. `threshold`: the value of its key in the config where one threshold does, else None.
    `rule`: the whole setting of a routed model, None elsewhere."""

    threshold: float | None
    decision: Decision
    rule: DecisionRule | None = None

    @property
    def rungs(self) -> Tensor:
        """The rung or exit at which each sample ends, [S] long."""
        return self.decision.rungs


def levels_of(values: Tensor, most: int = LEVELS) -> list[float]:
    """Return at most `most` of the distinct `values` (any shape), evenly by rank, with the smallest and the largest."""
    seen = values.flatten().double().unique()
    if len(seen) > most:
        seen = seen[torch.linspace(0, len(seen) - 1, most).round().long()]
    return seen.tolist()


def sweep_exits(rule: StopRule, logits: Tensor, certainty: Tensor | None, tolerance: float) -> list[SweptPoint]:
    """Return the points of `logits` [S, W, C] at each decisive `method.threshold`, and at one that no exit reaches."""
    sure = rule.sureness(logits.float(), certainty, tolerance)
    never = -float("inf") if rule.at_most else float("inf")
    levels = sorted([*levels_of(sure[:, :-1]), never])
    stops = [first_stop(rule.stops(logits, certainty, tolerance, x)) for x in levels]
    return [SweptPoint(x, Decision.at(rungs, logits)) for x, rungs in zip(levels, stops, strict=True)]


def sweep_rule(name: str, logits: Tensor, router_logits: Tensor | None) -> list[SweptPoint]:
    """Return the points of a rule at combinations of its thresholds, evenly by rank, from `logits` [S, W, C] and
    `router_logits` [S, W]; cascades both with the last answer and with the average of all."""
    settings = _router_settings(router_logits) if name == "router" else _cascade_settings(name, logits, router_logits)
    return [SweptPoint(_threshold(x), decide(x, logits, router_logits), x) for x in settings]


def _router_settings(router_logits: Tensor | None) -> Iterator[DecisionRule]:
    assert router_logits is not None, "the router's rule needs a router"
    scores = router_logits.float()[:, :-1].cummax(-1).values
    for starts in product(*([*levels, NEVER] for levels in _levels(scores, COMBINATIONS))):
        yield DecisionRule(starts=starts)


def _cascade_settings(name: str, logits: Tensor, router_logits: Tensor | None) -> Iterator[DecisionRule]:
    narrow, certainty = logits.shape[1] - 1, default_certainty(logits.shape[2])
    starts: list[tuple[float, ...] | None] = [None]
    if name != "cascade":
        assert router_logits is not None, f"{name} needs a router"
        scores = router_logits.float()[:, :-1].amax(-1)
        starts = [(level,) * narrow for level in levels_of(scores, _HARD)]
    for average in (False, True):
        plain = DecisionRule("cascade", stops=(math.inf,) * narrow, certainty=certainty, average=average)
        sure = certainties(plain, logits, torch.zeros(len(logits), dtype=torch.long))[:, :-1]
        most = COMBINATIONS if name == "cascade" else COMBINATIONS // 2
        for stops, start in product(product(*_levels(sure, most)), starts):
            yield DecisionRule(name, start, stops, certainty, average)


_HARD = 5  # levels of the router's score below which a sample begins at the top


def _levels(values: Tensor, combinations: int) -> list[list[float]]:
    """Return the levels of each column of `values` [S, W-1], so many that their product is at most `combinations`."""
    most = max(2, min(LEVELS, math.floor(combinations ** (1 / values.shape[1]) + 1e-9)))
    columns = [column[column > -math.inf] for column in values.unbind(1)]
    return [levels_of(column, most) if len(column) else [0.0] for column in columns]


def _threshold(rule: DecisionRule) -> float | None:
    """Return the one threshold of a ladder of two widths: a membership probability of the router, or a certainty."""
    if rule.name == "router" and rule.starts is not None and len(rule.starts) == 1:
        return torch.tensor(rule.starts[0], dtype=torch.float64).sigmoid().item()
    return rule.stops[0] if rule.name == "cascade" and rule.stops is not None and len(rule.stops) == 1 else None
