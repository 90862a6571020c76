"""The operating points of a trained model, which are settings of a rule with the decision that each gives every sample.

Dimensions: `S` samples, `W` rungs or exits, `C` labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import torch
from torch import Tensor

from sharcs_pl.core.cascade import certainties
from sharcs_pl.core.decision import NEVER, DecisionRule, default_certainty
from sharcs_pl.models.decision import Decision, decide
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
    sure = rule.sure(logits, certainty, tolerance)
    never = -float("inf") if rule.at_most else float("inf")
    levels = sorted([*levels_of(sure[:, :-1]), never])
    stops = [first_stop(rule.stops(logits, certainty, tolerance, x)) for x in levels]
    return [SweptPoint(x, Decision.at(rungs, logits)) for x, rungs in zip(levels, stops, strict=True)]


def sweep_rule(
    name: str,
    logits: Tensor,
    router_logits: Tensor | None,
    multi_label: bool = False,
    certainty: str | None = None,
) -> list[SweptPoint]:
    """Return the points of a rule at combinations of its thresholds, from `logits` [S, W, C] and `router_logits`
    [S, W]. `certainty`: of a cascade, None for the task's own."""
    forms = forms_of(name, logits.shape[2], multi_label, certainty)
    settings = [setting for form in forms for setting in settings_of(form, logits, router_logits)]
    return [SweptPoint(_threshold(x), decide(x, logits, router_logits), x) for x in settings]


def forms_of(
    name: str,
    num_labels: int,
    multi_label: bool = False,
    certainty: str | None = None,
    averages: Sequence[bool] = (False, True),
) -> list[DecisionRule]:
    """Return a rule without its thresholds; of a cascade, both with the last answer and with the average of all, or
    those of `averages`, by a `certainty`, None for the task's own."""
    if name == "router":
        return [DecisionRule(multi_label=multi_label)]
    certainty = certainty or default_certainty(num_labels)
    return [DecisionRule(name, certainty=certainty, average=each, multi_label=multi_label) for each in averages]


def settings_of(
    form: DecisionRule,
    logits: Tensor,
    router_logits: Tensor | None,
    levels: int = LEVELS,
    combinations: int = COMBINATIONS,
) -> Iterator[DecisionRule]:
    """Yield a rule at combinations of thresholds, evenly by rank of the samples' scores, from `logits` [S, W, C] and
    `router_logits` [S, W]. `levels` limits those of one threshold, `combinations` those of all."""
    grid = Levels(levels, combinations)
    if form.cascades:
        yield from _cascade_settings(form, logits, router_logits, grid)
    else:
        yield from _router_settings(form, router_logits, grid)


@dataclass(frozen=True)
class Levels:
    """Limits of a grid: the levels `each` threshold has at most, and the combinations of `all`."""

    each: int
    all: int

    def of(self, values: Tensor) -> list[list[float]]:
        """Return the levels of each column of `values` [S, W-1]: the least, and between neighbours above it."""
        most = max(2, min(self.each, math.floor(self.all ** (1 / values.shape[1]) + 1e-9)))
        columns = [column[column > -math.inf] for column in values.unbind(1)]
        return [_between(levels_of(column, most)) if len(column) else [0.0] for column in columns]


def _between(levels: list[float]) -> list[float]:
    """Return the least level and the middles between neighbours, so that rounding moves no sample across one."""
    return [levels[0], *((low + high) / 2 for low, high in pairwise(levels))]


def _router_settings(form: DecisionRule, router_logits: Tensor | None, grid: Levels) -> Iterator[DecisionRule]:
    assert router_logits is not None, "the router's rule needs a router"
    scores = router_logits.float()[:, :-1].cummax(-1).values
    for starts in product(*([*levels, NEVER] for levels in grid.of(scores))):
        yield replace(form, starts=starts)


def _cascade_settings(
    form: DecisionRule, logits: Tensor, router_logits: Tensor | None, grid: Levels
) -> Iterator[DecisionRule]:
    starts: list[tuple[float, ...] | None] = [None]
    if form.routed:
        assert router_logits is not None, f"{form.name} needs a router"
        scores, wider = router_logits.float()[:, 0], (NEVER,) * (logits.shape[1] - 2)
        starts = [(level, *wider) for level in levels_of(scores, _HARD)]
        grid = Levels(grid.each // 2, grid.all // 2)  # times the router's levels
    sure = certainties(form, logits, torch.zeros(len(logits), dtype=torch.long))[:, :-1]
    for stops, start in product(product(*grid.of(sure)), starts):
        yield replace(form, starts=start, stops=stops)


_HARD = 5  # levels of the narrowest rung's router logit below which a sample begins at the top


def _threshold(rule: DecisionRule) -> float | None:
    """Return the one threshold of a ladder of two widths: a membership probability of the router, or a certainty."""
    if rule.name == "router" and rule.starts is not None and len(rule.starts) == 1:
        return torch.tensor(rule.starts[0], dtype=torch.float64).sigmoid().item()
    return rule.stops[0] if rule.name == "cascade" and rule.stops is not None and len(rule.stops) == 1 else None
