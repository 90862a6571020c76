"""The ladder of widths: exact fractions of an encoder's sizes (SHARCS, arXiv 2310.12126).

A width 0 < r <= 1 exists only in yaml and inside `WidthLadder`. Everywhere else a *rung* is an index into the ladder,
narrow first. Fractions are exact, so that `r * size` is either whole or refused, never rounded.

Legend: `D` hidden, `N` heads, `F` feed-forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from sharcs_pl.core.errors import KeyFault
from sharcs_pl.core.ladder import Ladder, Rung

REDUCTIONS = ("slice", "learned")
CUTS = ("full", "heads_ffn")

_MOST_LISTED = 16

# Far above the useful denominators of any hidden size, and low enough that no two fractions share a double.
_MAX_DENOMINATOR = 10_000


@dataclass(frozen=True)
class WidthLadder(Ladder):
    """Widths in increasing order. The last one is 1, the full width, except in a ladder of a single width.

    `widths`: exact fractions of the encoder's sizes, without unit.
    """

    widths: tuple[Fraction, ...]
    kind: ClassVar[str] = "width"
    control: ClassVar[str] = "width"

    def __post_init__(self) -> None:
        shown = f"[{', '.join(map(_label, self.widths))}]"
        last = self.widths[-1] if self.widths else Fraction(0)
        if last > 1 or (len(self.widths) != 1 and last != 1):
            raise KeyFault("width.multipliers", f": {shown} must end with 1, the full width")
        if min(self.widths) <= 0:
            raise KeyFault("width.multipliers", f": {shown} must all be above 0")
        if any(low >= high for low, high in zip(self.widths, self.widths[1:], strict=False)):
            raise KeyFault("width.multipliers", f": {shown} must increase, each width once")

    @classmethod
    def parse(cls, multipliers: Sequence[float | int | str | Fraction]) -> WidthLadder:
        """Parse widths such as `[0.25, "1/3", 1]`.

        A float is read as the decimal that it prints as, or as the nearest simple fraction if it equals it (`1 / 3`).
        Raise `ValueError` naming `width.multipliers` if one is no number, or if they do not increase up to 1.
        """
        if isinstance(multipliers, str) or not isinstance(multipliers, Sequence):
            raise KeyFault("width.multipliers", f": {multipliers!r} is not a list, such as [0.25, 1]")
        return cls(tuple(_fraction(multiplier) for multiplier in multipliers))

    def __len__(self) -> int:
        return len(self.widths)  # the engine asks it of every batch

    @property
    def narrow(self) -> range:
        """The rungs below the top one."""
        return range(self.top)

    def size(self, rung: int, full: int) -> int:
        """Return the size `r * full` of a rung, for a full size of any kind.

        Raise `ValueError` if it is not whole or below 1. `check` raises earlier and lists the widths that fit.
        """
        assert 0 <= rung < len(self.widths), f"rung {rung} of a ladder of {len(self.widths)}"
        size = self.widths[rung] * full
        if size.denominator != 1 or size < 1:
            raise KeyFault(
                "width.multipliers", f": {_label(self.widths[rung])} of {full} is {float(size):g}, not whole"
            )
        return int(size)

    def check(self, *, hidden_size: int, num_heads: int, intermediate_size: int, reduction: str = "slice") -> None:
        """Raise `ValueError` if a width cuts a head, a hidden dim or a feed-forward neuron in two.

        `reduction="learned"` pools groups of D / D_i neighbouring dims, so it also needs whole inverses.
        The error names `width.multipliers` and the widths that fit, or `width.reduction`.
        """
        if reduction not in REDUCTIONS:
            raise ValueError(f"width.reduction: {reduction!r} is none of {', '.join(REDUCTIONS)}")
        sizes = {"hidden dims": hidden_size, "heads": num_heads, "feed-forward neurons": intermediate_size}
        faults = [fault for width in self.widths for fault in _faults(width, sizes, reduction)]
        if faults:
            fitting = _fitting(math.gcd(*sizes.values()), reduction)
            raise KeyFault("width.multipliers", f": {'; '.join(faults)}. Widths that fit this encoder: {fitting}")

    def rungs(self) -> list[Rung]:
        """Return the names of all widths. Labels are such as "0.25", "1/3" and "1"; `parse` reads them back exactly."""
        return [_rung(width) for width in self.widths]


def check_split(split_layer: int, num_layers: int) -> None:
    """Raise `ValueError` naming `width.split_layer` unless 1 <= split_layer < num_layers.

    The split layer is the number of full-width layers. The router needs one below it and the narrow tail one above it.
    """
    if not 1 <= split_layer < num_layers:
        fits = f"1 to {num_layers - 1}" if num_layers > 1 else "none: the encoder needs at least 2 layers"
        raise ValueError(f"width.split_layer: {split_layer} of {num_layers} layers; what fits: {fits}")


def _fraction(multiplier: float | int | str | Fraction) -> Fraction:
    try:
        if isinstance(multiplier, bool):
            raise TypeError
        exact = Fraction(repr(multiplier) if isinstance(multiplier, float) else multiplier)
    except (ValueError, TypeError, ZeroDivisionError):
        raise KeyFault("width.multipliers", f': {multiplier!r} is no number, such as 0.25 or "1/3"') from None
    simple = exact.limit_denominator(_MAX_DENOMINATOR)
    return simple if isinstance(multiplier, float) and float(simple) == multiplier else exact


def _rung(width: Fraction) -> Rung:
    label, title = _label(width), f"width {float(width):.3g}{' (full)' if width == 1 else ''}"
    return Rung(label, title, f"at width {label}", width=float(width))


def _label(width: Fraction) -> str:
    decimal = f"{float(width):g}"
    return decimal if Fraction(decimal) == width else str(width)


def _faults(width: Fraction, sizes: dict[str, int], reduction: str) -> list[str]:
    broken = [name for name, full in sizes.items() if (width * full).denominator != 1]
    faults = [f"{_label(width)} of {sizes[name]} {name} is {float(width * sizes[name]):g}" for name in broken]
    if reduction == "learned" and width.numerator != 1:
        faults.append(f"{_label(width)} has no whole inverse, which width.reduction=learned needs")
    return faults


def _fitting(parts: int, reduction: str) -> str:
    """Describe the widths that fit. p/q in lowest terms leaves every size whole exactly if q divides all of them."""
    if parts > _MOST_LISTED:
        return f"1/q where q divides {parts}" if reduction == "learned" else f"every multiple of 1/{parts}"
    widths = [Fraction(part, parts) for part in range(1, parts + 1)]
    return ", ".join(_label(width) for width in widths if reduction != "learned" or width.numerator == 1)
