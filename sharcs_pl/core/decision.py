"""The rules by which a routed model chooses the widths that a sample runs on. Loads no torch.

A sample begins at one width. While its answer is unsure it goes on to the next wider one, up to the full width:

- ``router``: the router chooses the width before its compute, and the sample stops there (SHARCS, arXiv 2310.12126).
- ``cascade``: every sample begins at the narrowest width and goes on while the answer is unsure.
- ``router+cascade``: the sample begins where the router sends it and goes on from there, so that a signal from before
  the compute and one from after it decide together (cascade routing, arXiv 2410.10347).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sharcs_pl.core.kinds import kind_of_model, task_kind
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.methods import ThresholdFacts

NEVER = 1e9  # a threshold that no router logit reaches; JSON has no infinity
RULES = ("router", "cascade", "router+cascade")
BEST = "best"  # of the rules that a model can have

CERTAINTIES = {
    "probability": ThresholdFacts(0.0, 1.0, 0.9),  # the largest class probability
    "margin": ThresholdFacts(0.0, 1.0, 0.8),  # the largest probability less the second
    "entropy": ThresholdFacts(0.0, 1.0, 0.5),  # 1 - entropy / log C, so that more is surer
    "agreement": ThresholdFacts(-math.inf, 0.0, 0.0, for_regression=True),  # minus the change since the width before
}


@dataclass(frozen=True)
class DecisionRule:
    """A rule with its thresholds, one per width except the full one.

    Attributes: name, one of `RULES`; starts, router logits as `core.cascade.choose_rungs` reads them, None for the
    likeliest width, unused without a router; stops, certainties at which a sample stops, None for ``router``;
    certainty, one of `CERTAINTIES`; average, True if the answer is the mean of the log-probabilities (of the values of
    a regression) of all widths that ran (geometric ensembling, Zero Time Waste, arXiv 2106.05409); temperatures, one
    per width, which divide its logits where probabilities are taken, None for ones; multi_label, True if every output
    is a label of its own.
    """

    name: str = "router"
    starts: tuple[float, ...] | None = None
    stops: tuple[float, ...] | None = None
    certainty: str = "probability"
    average: bool = False
    temperatures: tuple[float, ...] | None = None
    multi_label: bool = False

    @property
    def routed(self) -> bool:
        """True if the router chooses the first width."""
        return self.name != "cascade"

    @property
    def cascades(self) -> bool:
        """True if a sample may go on to a wider width."""
        return self.name != "router"

    @classmethod
    def from_point(cls, point: Mapping[str, Any], multi_label: bool = False) -> DecisionRule:
        """Read the rule of a stored operating point; one without ``rule`` is the router's. Raise ``ValueError`` naming
        the key whose value is of another kind."""
        name, average = point.get("rule", "router"), point.get("average", False)
        if not isinstance(average, bool):
            raise ValueError(f"average={average} is neither true nor false")
        return cls(
            name=name,
            starts=_floats(point, "thresholds") if name != "cascade" else None,
            stops=_floats(point, "stops"),
            certainty=point.get("certainty", "probability"),
            average=average,
            temperatures=_floats(point, "temperatures"),
            multi_label=multi_label,
        )

    def to_point(self) -> dict[str, Any]:
        """Return what an operating point stores of the rule, as plain types; defaults are left out."""
        found: dict[str, Any] = {} if self.name == "router" else {"rule": self.name}
        if self.starts is not None:
            found["thresholds"] = list(self.starts)
        if self.cascades:
            assert self.stops is not None
            found |= {"stops": list(self.stops), "certainty": self.certainty, "average": self.average}
        if self.temperatures is not None:
            found["temperatures"] = list(self.temperatures)
        return found

    def check(self, widths: Sequence[str], has_router: bool, num_labels: int) -> None:
        """Raise ``ValueError`` naming the key at fault where a model with these widths cannot have this rule."""
        check_rule(self.name, len(widths), has_router)
        if self.cascades != (self.stops is not None):
            what = (
                "is missing; a cascade has one per width except the full one" if self.cascades else "is for a cascade"
            )
            raise ValueError(f"stops {what}, and rule={self.name} was given")
        for key, values, size in (
            ("thresholds", self.starts, len(widths) - 1),
            ("stops", self.stops, len(widths) - 1),
            ("temperatures", self.temperatures, len(widths)),
        ):
            if values is not None and len(values) != size:
                asked = "one per width" if key == "temperatures" else "one per width except the full one"
                raise ValueError(
                    f"{key} has {len(values)} values; the widths {' '.join(widths)} ask for {size}, {asked}"
                )
        if self.cascades:
            check_certainty(self.certainty, num_labels)
            facts = CERTAINTIES[self.certainty]
            for value in self.stops or ():
                if not facts.low <= value <= facts.high:
                    raise ValueError(f"stops has {value:g}; {self.certainty} lies in [{facts.low:g}, {facts.high:g}]")
        for value in self.temperatures or ():
            if not 0 < value < math.inf:
                raise ValueError(f"temperatures has {value:g}; a temperature is above 0")


def check_rule(name: str, num_rungs: int, has_router: bool, key: str = "rule") -> None:
    """Raise ``ValueError`` where a model of ``num_rungs`` widths cannot decide by the rule ``name``."""
    if name not in RULES:
        raise ValueError(f"{key}={name} is unknown; choose one of: {', '.join(RULES)}")
    if name != "router" and num_rungs < 2:
        raise ValueError(f"{key}={name} needs two or more widths; this model has one")
    if name != "cascade" and not has_router and num_rungs > 1:
        raise ValueError(f"{key}={name} needs a router, which this model lacks; use {key}=cascade")


def check_certainty(name: str, num_labels: int, key: str = "certainty") -> None:
    """Raise ``ValueError`` where a model with ``num_labels`` outputs has no such certainty."""
    if name not in CERTAINTIES:
        raise ValueError(f"{key}={name} is unknown; choose one of: {', '.join(CERTAINTIES)}")
    if not task_kind(num_labels).has_classes and not CERTAINTIES[name].for_regression:
        raise ValueError(f"{key}={name} needs class probabilities, which a regression lacks; use {key}=agreement")


def rules_of(num_rungs: int, has_router: bool, num_labels: int = 2, skims: bool = False) -> tuple[str, ...]:
    """Return the names of the rules that a model of ``num_rungs`` widths can have to some use. A cascade of a
    regression compares two widths before it may stop, so it needs a third; one whose tokens are skipped has none."""
    cascades = not skims and num_rungs > 1 + (not task_kind(num_labels).has_classes)
    found = ("router",) if has_router and num_rungs > 1 else ()
    return RULES if found and cascades else found or (("cascade",) if cascades else ())


def default_certainty(num_labels: int) -> str:
    """Return the certainty that fits the task: ``probability``, or ``agreement`` for a regression."""
    return task_kind(num_labels).default_certainty


RULE_KEYS = (
    "rule", "certainty", "stop_threshold", "average", "router_threshold", "operating_points", "operating_point",
    "problem_type", "router_hidden_size",
)  # fmt: skip
"""The keys of a model's config that decide by which rule it runs."""


def stored_rule(settings: Mapping[str, Any], num_rungs: int, num_labels: int, point: str | None = None) -> DecisionRule:
    """Return the rule of an operating point (None: the one in use, ``trained``: the rule of training) from the
    `RULE_KEYS` of a model's config. Raise ``ValueError`` listing the known points."""
    points = settings.get("operating_points") or {}
    name = point or settings.get("operating_point") or TRAINED
    multi_label = kind_of_model(num_labels, settings.get("problem_type")).multi_label
    if name == TRAINED:
        return replace(_trained(settings, num_rungs - 1, num_labels), multi_label=multi_label)
    if name not in points:
        raise ValueError(
            f"point={name}: this model has no such operating point; it has {', '.join([TRAINED, *points])}"
        )
    return DecisionRule.from_point(points[name], multi_label)


def _trained(settings: Mapping[str, Any], top: int, num_labels: int) -> DecisionRule:
    name, probability = settings.get("rule", "router"), settings.get("router_threshold")
    if not settings.get("router_hidden_size", 1):
        probability = None  # a recipe's threshold in a model without a router, which runs all at the top
    starts = None if name == "cascade" or probability is None else (_logit(probability),) * top
    if name == "router":
        return DecisionRule(starts=starts)
    certainty = settings.get("certainty") or default_certainty(num_labels)
    stop = settings.get("stop_threshold")
    stop = CERTAINTIES[certainty].default if stop is None else stop
    return DecisionRule(name, starts, (stop,) * top, certainty, settings.get("average", False))


def _logit(probability: float) -> float:
    odds = probability / (1 - probability) if probability < 1 else math.inf
    return min(max(math.log(odds) if odds > 0 else -math.inf, -NEVER), NEVER)


def _floats(point: Mapping[str, Any], key: str) -> tuple[float, ...] | None:
    values = point.get(key)
    if values is None:
        return None
    if not isinstance(values, list | tuple) or not all(type(x) in (int, float) for x in values):
        raise ValueError(f"{key}={values} is not a list of numbers")
    return tuple(float(x) for x in values)
