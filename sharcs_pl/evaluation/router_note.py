"""A note below the table of a run whose router chooses next to nothing, or no better than chance.

Random routing deals the router's own choices to random samples, so each deal is a draw from what the metric would be if
the choices had nothing to do with the samples: a permutation test, whose noise is the standard deviation of the deals.
"""

from __future__ import annotations

from collections.abc import Sequence

from sharcs_pl.evaluation.report import Report

CONSTANT = 0.98  # share of the samples on one width that is as good as no choice
NOISE = 2.0  # standard deviations of the deals; a gain below that is met by chance in about one router of 40
_ROUNDING = 1e-6  # of float32 shares, and of a mean of equal values
_TRY = "other width.bounds, more epochs, a smaller batch_size where data is little, distill=top"
_MORE = 'docs/troubleshooting.md, "The router chooses nothing"'


def router_note(report: Report) -> str | None:
    """Return the note and what to try; None for a router that chooses well, and where no router alone chooses."""
    if not report.has_router or report.rule != "router" or len(report.rungs) < 2:
        return None
    widths = [f"{rung.width:.3g}" for rung in report.rungs]
    budget = (report.rungs[0].macs_fraction + report.rungs[-1].macs_fraction) / 2
    constant = constant_note(widths, [rung.share for rung in report.rungs], budget)
    return constant or _chance_note(report)


def constant_note(widths: Sequence[str], shares: Sequence[float], budget: float = 0.7) -> str | None:
    """Return the note where one width takes nearly all; `budget` is a mean cost of dense that would mix the widths."""
    share, width = max(zip(shares, widths, strict=True))
    if share <= CONSTANT + _ROUNDING:
        return None
    return (
        f"note: width {width} takes {share:.1%} of the samples: the router chooses next to nothing, and this width "
        f"alone does the same. Try {_TRY} or another router.threshold; sharcs calibrate budget={budget:.2g} mixes the "
        f"widths without training ({_MORE})"
    )


def _chance_note(report: Report) -> str | None:
    """Return the note where the metric is within the noise of random routing at the same shares, or below it."""
    gain, noise = report.routed.value - report.random["value"], report.random["std"]
    if gain > NOISE * noise + _ROUNDING:
        return None
    return (
        f"note: the router chooses no better than chance: {report.metric} is {report.routed.value:.4f}, and "
        f"{report.random['value']:.4f} ± {noise:.4f} where its choices are dealt to random samples. Try {_TRY}; or use "
        f"one width, if it is as good ({_MORE})"
    )
