"""The values of keys that are ``auto``: what follows from the encoder's sizes and the number of training texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from sharcs_pl.config.checks import AUTO
from sharcs_pl.config.run import RunConfig
from sharcs_pl.core.hardness import SCORES
from sharcs_pl.core.widths import CUTS, WidthLadder

_ENOUGH, _SHARE = 1000, 0.1  # training texts from which on such a share of them can choose thresholds
_SAMPLES = 48  # about so many per optimizer step, over all widths
_RATES = ((512, 1e-4), (768, 3e-5), (math.inf, 1.5e-5))  # of hidden sizes up to so many


@dataclass(frozen=True)
class Basis:
    """What the values follow from: the encoder's ``layers``, ``hidden`` size, attention ``heads`` and feed-forward
    neurons ``ffn``, and the number of training ``rows``. ``ladder`` is the config of a model of several widths, where
    the encoder comes from one: they have learned with the order that it has."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    rows: int
    ladder: dict[str, Any] | None = None


def decided(config: RunConfig, basis: Basis) -> RunConfig:
    """Return the config with a value for every key that is ``auto``. Values that are given stay as they are, and those
    that follow from them agree with them. A budget brings the texts that choose its thresholds."""
    for key in config.undecided:
        value = _RULES[key](config, basis)
        config = with_value(_with_calibration(config), key, value)  # the last key makes the config check itself
    return config


def _with_calibration(config: RunConfig) -> RunConfig:
    known = config.router.budget not in (None, AUTO)
    needs = known and config.method.widths == "all" and config.task.calibration is None
    return with_value(config, "task.calibration", _SHARE) if needs else config


def with_value(config: RunConfig, key: str, value: Any) -> RunConfig:
    """Return the config with another value of a dotted key."""
    group, _, name = key.rpartition(".")
    return replace(
        config, **({name: value} if not group else {group: replace(getattr(config, group), **{name: value})})
    )


def _split_layer(config: RunConfig, basis: Basis) -> int:
    if basis.ladder is not None and config.method.widths == "all":
        return basis.ladder["split_layer"]
    return max(1, basis.layers // 6)


def _widths(config: RunConfig, basis: Basis) -> list[str]:
    """Return a quarter, a half and the full width, or the next wider ones by which what is cut can be divided; as many
    as there are bounds or weights, from a quarter on in equal ratios."""
    if basis.ladder is not None and config.method.widths == "all":
        return basis.ladder["widths"]
    given = _given_bounds(config) or config.width.loss_weights
    parts = math.gcd(basis.heads, basis.ffn, *([basis.hidden] if config.method.cut == CUTS[0] else []))
    steps = max(1, len(given) - 1) if given else 2
    chosen = sorted({math.ceil(parts * 4 ** (step / steps - 1) - 1e-9) for step in range(steps)} | {parts})
    if len(chosen) == 1 and config.method.widths == "all":
        raise ValueError(
            f"width.multipliers=auto finds no narrower width: {basis.heads} heads and {basis.ffn} feed-forward neurons "
            "have no common divisor; train this encoder with method=dense"
        )
    return WidthLadder(tuple(Fraction(each, parts) for each in chosen)).labels()


def _given_bounds(config: RunConfig) -> list[Any] | None:
    """Return the bounds that are not those of the score."""
    if config.width.bounds != AUTO:
        return config.width.bounds
    name = config.hardness.score
    found = config.hardness.bounds.get(name)
    return None if found == SCORES[name].pairs else found


def _bounds(config: RunConfig, basis: Basis) -> list[Any] | None:
    """Return nested ranges: a sample is a member of every width from the narrowest that fits it on."""
    given = _given_bounds(config)
    if given is not None:
        return given
    return SCORES[config.hardness.score].nested(len(config.width.multipliers))


def _cut(config: RunConfig, basis: Basis) -> str | None:
    if basis.ladder is not None and config.method.widths == "all":
        return basis.ladder.get("cut", CUTS[0])
    return CUTS[1] if "cut" in config.method.facts.options else None


def _epochs(config: RunConfig, basis: Basis) -> int:
    """Return 3 epochs from 20,000 texts on, and 3 more for each tenth of that, 10 at most. Where the full width trains
    alone first, three fifths as many come on top; one more than are asked for at full width is the least."""
    epochs = min(10, max(3, round(3 + 3 * math.log10(20_000 / basis.rows))))
    return max(_first_routed(config) + 1, epochs + (math.ceil(epochs * 3 / 5) if config.method.routed else 0))


def _first_routed(config: RunConfig) -> int:
    """Return the least number of epochs at full width that the given keys ask for."""
    asked = (config.hardness.window, config.hardness.warmup_epochs, config.width.reorder_after)
    return max(x for x in asked if isinstance(x, int)) if config.method.routed else 0


def _warmup_epochs(config: RunConfig, basis: Basis) -> int:
    """Return three eighths of the epochs, rounded up, or as many as other keys ask for. With more the full width would
    learn the training texts by heart, and its answers to them would teach no more than the labels; with fewer it falls
    behind a dense model."""
    epochs = config.trainer.max_epochs
    return max(_first_routed(config), min(epochs - 1, math.ceil(epochs * 3 / 8)), 1)


def _reorder_after(config: RunConfig, basis: Basis) -> int | None:
    ordered = config.method.routed and basis.ladder is None
    return (config.hardness.warmup_epochs or config.hardness.window) if ordered else None


def _trains(config: RunConfig, basis: Basis) -> str:
    bucket = config.method.skim_weight is not None or config.hardness.weight_by_bucket or not config.method.routed
    return "bucket" if bucket else "all"


def _distill(config: RunConfig, basis: Basis) -> str:
    return "frozen" if config.every_rung and config.distill.weight else "top"


def _batch_size(config: RunConfig, basis: Basis) -> int:
    """Return the power of two that gives a step about `_SAMPLES` samples, twice as many from 10,000 texts on."""
    samples = _SAMPLES * (2 if basis.rows >= 10_000 else 1)
    return 2 ** round(math.log2(samples / len(config.width.multipliers)))


def _rate(config: RunConfig, basis: Basis) -> float:
    return next(rate for size, rate in _RATES if basis.hidden <= size)


def _budget(config: RunConfig, basis: Basis) -> float | None:
    """Return half of the dense cost where there are texts enough, unless a threshold is given, which then stays."""
    several = config.method.widths == "all" and len(config.width.multipliers) > 1
    given = config.router.threshold != AUTO or config.router.stop_threshold is not None
    return 0.5 if several and not given and (config.task.calibration is not None or basis.rows >= _ENOUGH) else None


def _threshold(config: RunConfig, basis: Basis) -> float:
    """Return the membership probability that serves nested bounds, of which all texts fit the full width."""
    return 0.7


_RULES: dict[str, Callable[[RunConfig, Basis], Any]] = {
    "width.split_layer": _split_layer,
    "width.multipliers": _widths,
    "width.bounds": _bounds,
    "method.cut": _cut,
    "trainer.max_epochs": _epochs,
    "hardness.warmup_epochs": _warmup_epochs,
    "width.reorder_after": _reorder_after,
    "hardness.trains": _trains,
    "distill.name": _distill,
    "batch_size": _batch_size,
    "optim.lr": _rate,
    "router.budget": _budget,
    "router.threshold": _threshold,
}
