"""The fixed properties of each method and each stop rule, which docs/methods.md describes. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MethodFacts:
    """The properties of a method that its config depends on.

    Attributes: options, the keys ``method.*`` that it reads, while every other one stays null; needs, the required
    options; widths, the widths of its model: ``all`` of ``width.multipliers``, ``full``, ``one``, or ``none`` (early
    exits, skimming); routed, True if hardness assigns the training samples to widths; objective, of early exits, a key
    of `training.exits.OBJECTIVES`.
    """

    options: tuple[str, ...]
    needs: tuple[str, ...] = ()
    widths: str = "none"
    routed: bool = False
    objective: str | None = None


@dataclass(frozen=True)
class ThresholdFacts:
    """The range and default of the threshold of a stop rule, or of a certainty. That of patience is a count.
    Attributes: low; high; default; for_regression, True if it also works for a regression."""

    low: float
    high: float
    default: float
    for_regression: bool = False


_EXITS = ("match", "exits", "exit_head", "rule", "threshold", "tolerance")

METHODS = {
    "sharcs": MethodFacts(("cut", "skim_weight"), widths="all", routed=True),
    "dense": MethodFacts(("match", "teacher"), widths="full"),
    "fixed": MethodFacts(("match", "width", "cut", "teacher"), needs=("width",), widths="one"),
    "distilled": MethodFacts(("match", "teacher"), needs=("teacher",), widths="full"),
    "slimmable": MethodFacts(("match", "cut", "teacher"), widths="all"),
    "skim": MethodFacts(("match", "skim_weight")),
    "branchynet": MethodFacts(_EXITS, objective="equal"),
    "shallow_deep": MethodFacts(_EXITS, objective="ramped"),
    "deebert": MethodFacts((*_EXITS, "stage_epochs"), objective="two_stage"),
    "pabee": MethodFacts(_EXITS, objective="by_depth"),
    "fastbert": MethodFacts((*_EXITS, "stage_epochs"), objective="self_distilled"),
    "berxit": MethodFacts(_EXITS, objective="alternating"),
}

STOP_RULES = {
    "confidence": ThresholdFacts(0.0, 1.0, 0.9),
    "entropy": ThresholdFacts(0.0, math.inf, 0.3),
    "uncertainty": ThresholdFacts(0.0, 1.0, 0.5),
    "patience": ThresholdFacts(1.0, math.inf, 2.0, for_regression=True),
    "learned": ThresholdFacts(0.0, 1.0, 0.9, for_regression=True),
}
