"""The group ``method``: the training method, and the rule that sets its cost afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING

from sharcs_pl.config.checks import AUTO, in_range, one_of
from sharcs_pl.config.texts import PATH
from sharcs_pl.core.errors import KeyFault
from sharcs_pl.core.kinds import task_kind
from sharcs_pl.core.methods import METHODS, STOP_RULES, MethodFacts
from sharcs_pl.core.widths import CUTS, WidthLadder

EXIT_HEADS = ("stock", "linear")


@dataclass
class MethodConfig:
    """The training method and its options."""

    name: str = MISSING
    """Name of the method; docs/methods.md describes each."""
    match: str | None = field(default=None, metadata=PATH)
    """Run directory of a sharcs run; training matches its number of steps in each epoch."""
    width: Any = None
    """``fixed``: the single width, a number or a fraction such as "1/3"."""
    cut: str | None = None
    """``full`` (null) cuts hidden dims, heads and feed-forward neurons; ``heads_ffn`` the latter two (DynaBERT)."""
    teacher: str | None = field(default=None, metadata=PATH)
    """Run directory or model folder whose logits are distilled, weighted by ``distill.weight``."""
    exits: list[int] | None = None
    """Layers after which a sample may stop, counted from 1, with the last layer; null: all."""
    exit_head: str | None = None
    """``stock`` (null) gives every exit a head like the encoder's own; ``linear`` gives it a linear layer only."""
    rule: str | None = None
    """Stop rule of a sample: ``confidence``, ``entropy``, ``uncertainty``, ``patience`` or a ``learned`` certainty."""
    threshold: float | None = None
    """Default threshold of the rule; all thresholds are swept after training."""
    tolerance: float | None = None
    """``patience`` in regression: largest difference between two predictions that agree."""
    skim_weight: float | None = None
    """``skim``, ``sharcs``: weight of the mean share of tokens kept per layer, added to the task loss; with null,
    ``sharcs`` keeps all tokens."""
    stage_epochs: int | None = None
    """Epochs that train only the last exit, before the other exits are trained; null: half of all epochs."""

    def __post_init__(self) -> None:
        one_of("method.name", self.name, (MISSING, *METHODS))
        self._check_options()
        self._check_width()
        self._check_exits()

    @property
    def facts(self) -> MethodFacts:
        """The fixed properties of the method."""
        return METHODS["sharcs" if self.name == MISSING else self.name]

    @property
    def routed(self) -> bool:
        """True if hardness assigns the training samples to widths."""
        return self.facts.routed

    @property
    def widths(self) -> str:
        """The widths of the method's model: ``all``, ``full``, ``one`` or ``none``."""
        return self.facts.widths

    def _check_options(self) -> None:
        given = vars(self)
        for name in OPTIONS:
            if given[name] not in (None, AUTO) and name not in self.facts.options:
                reads = ", ".join(self.facts.options) or "none"
                raise ValueError(f"method.{name} is no option of method={self.name}; its options: {reads}")
        one_of("method.cut", self.cut or CUTS[0], (*CUTS, AUTO))
        one_of("method.exit_head", self.exit_head or EXIT_HEADS[0], EXIT_HEADS)
        for name in self.facts.needs:
            if given[name] is None:
                raise ValueError(f"method.{name} is missing; method={self.name} needs it")
        in_range("method.skim_weight", self.skim_weight, 0)
        in_range("method.stage_epochs", self.stage_epochs, 1)

    def _check_width(self) -> None:
        if self.widths != "one":
            return
        try:
            ladder = WidthLadder.parse([self.width])
        except KeyFault as error:
            raise error.of("method.width") from error
        (self.width,) = ladder.labels()

    def _check_exits(self) -> None:
        exits = self.exits
        if exits is not None and (not exits or exits != sorted(set(exits)) or exits[0] < 1):
            raise ValueError(f"method.exits={exits} must be layers in increasing order, such as [2,4,6]")
        if self.rule is None:
            return
        one_of("method.rule", self.rule, tuple(STOP_RULES))
        if self.threshold is not None:
            rule = STOP_RULES[self.rule]
            in_range("method.threshold", self.threshold, rule.low, rule.high)
        in_range("method.tolerance", self.tolerance, 0)

    def check_layers(self, num_layers: int) -> None:
        """Raise ``ValueError`` unless the exits end with the last layer of an encoder of ``num_layers``."""
        if self.exits is not None and self.exits[-1] != num_layers:
            raise ValueError(f"method.exits={self.exits} must end with {num_layers}, the encoder's last layer")

    def check_classes(self, task: str, num_labels: int) -> None:
        """Raise ``ValueError`` unless the stop rule fits a task with ``num_labels`` outputs; 1 is a regression."""
        if self.rule is None:
            return
        if not task_kind(num_labels).has_classes and not STOP_RULES[self.rule].for_regression:
            raise ValueError(
                f"method={self.name} stops by {self.rule}, which needs classes; task={task} is a regression: choose a "
                "method that stops by patience or a learned certainty, such as pabee or berxit"
            )
        if self.rule == "entropy" and self.threshold is not None:
            in_range("method.threshold", self.threshold, 0, round(math.log(num_labels), 4))


OPTIONS = tuple(field.name for field in fields(MethodConfig) if field.name != "name")
