"""The table and the figure of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sharcs_pl.analysis.benchmark.latency import Timed
from sharcs_pl.analysis.benchmark.variants import Workload
from sharcs_pl.analysis.figures.style import BLUE, ORANGE, canvas, have_matplotlib, legend_above
from sharcs_pl.core.screen import new_table

COLUMNS = (
    "samples/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "of dense MACs",
    "MACs promise",
    "measured",
    "efficiency",
    "middle half",
)


def row(timed: Timed, workload: Workload) -> dict[str, Any]:
    """Return one variant as plain numbers, with every round's time."""
    low, high = timed.spread
    return {
        "contender": timed.variant.name,
        "kind": timed.variant.kind,
        "base": timed.variant.base,
        "batch_size": workload.batch_size,
        "order": workload.order,
        "throughput": timed.throughput,
        "latency_ms": {f"p{percent}": 1000 * timed.percentile(percent) for percent in (50, 95, 99)},
        "macs_fraction": timed.variant.macs_fraction,
        "mac_speedup": timed.promised,
        "speedup": timed.speedup,
        "efficiency": timed.efficiency,
        "efficiency_middle_half": [low, high],
        "value": timed.variant.value,
        "seconds": timed.seconds,
    }


def speed_table(timed: list[Timed], workload: Workload, metric: str | None) -> Table:
    """Return the table of throughput, latency of a call (of a sample in streams), and measured and promised gain."""
    size = f"batch size {workload.batch_size}, {workload.order} order"
    title = f"{size}, {len(workload)} samples, {len(timed[0].seconds)} rounds"
    table = new_table(title, ("", *COLUMNS, *([] if metric is None else [metric])))
    for each in timed:
        value = each.variant.value
        low, high = each.spread
        table.add_row(
            each.variant.name,
            f"{each.throughput:,.1f}",
            *(f"{1000 * each.percentile(percent):,.1f}" for percent in (50, 95, 99)),
            f"{each.variant.macs_fraction:.3f}",
            f"{each.promised:.2f}x",
            f"{each.speedup:.2f}x",
            f"{each.efficiency:.3f}",
            f"{low:.3f} to {high:.3f}",
            *([] if value is None else [f"{value:.4f}"]),
        )
    return table


def headline(timed: list[Timed], max_drop: float) -> dict[str, Any] | None:
    """Return the fastest routed variant over the fastest dense one, of those whose metric is at most `max_drop` below
    the first variant's (all, where no labels are known); None without a routed one."""
    floor = None if timed[0].variant.value is None else timed[0].variant.value - max_drop
    fine = [each for each in timed if floor is None or (each.variant.value or 0.0) >= floor]
    best = {
        kind: max((each for each in fine if each.variant.kind == kind), key=lambda each: each.throughput, default=None)
        for kind in ("dense", "routed")
    }
    routed, dense = best["routed"], best["dense"]
    if routed is None or dense is None:
        return None
    ratios = [one / other for one, other in zip(dense.seconds, routed.seconds, strict=True)]
    low, high = np.quantile(ratios, (0.25, 0.75))
    return {
        "routed": routed.variant.name,
        "dense": dense.variant.name,
        "speedup": float(np.median(ratios)),
        "middle_half": [float(low), float(high)],
        "values": [routed.variant.value, dense.variant.value],
    }


def told(found: dict[str, Any], metric: str | None) -> str:
    """Return a headline as a sentence."""
    low, high = found["middle_half"]
    said = f"{found['routed']} is {found['speedup']:.2f}x as fast ({low:.2f} to {high:.2f}) as {found['dense']}"
    if metric is None:
        return f"{said}, the fastest dense variant"
    values = " against ".join(f"{value:.4f}" for value in found["values"])
    return f"{said}, the fastest dense variant of its quality: {metric} {values}"


def draw_speedups(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw measured and promised speed-ups, a panel per batch size and order; do nothing without matplotlib."""
    if not have_matplotlib():
        return
    panels: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for each in rows:
        panels.setdefault((each["batch_size"], each["order"]), []).append(each)
    bars = sum(len(panel) for panel in panels.values())
    with canvas(path, (7.0, 1.0 + 0.34 * bars + 0.5 * len(panels))) as figure:
        heights = [len(panel) for panel in panels.values()]
        axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axis, ((size, order), panel) in zip(axes, panels.items(), strict=True):
            places = list(range(len(panel)))
            axis.barh([p - 0.2 for p in places], [r["speedup"] for r in panel], 0.4, color=BLUE, label="measured")
            promised = [r["mac_speedup"] for r in panel]
            axis.barh([p + 0.2 for p in places], promised, 0.4, color=ORANGE, hatch="////", label="promised by MACs")
            axis.set_yticks(places, [r["contender"] for r in panel])
            axis.invert_yaxis()
            axis.axvline(1, color="black", linewidth=0.8)
            axis.set_title(f"batch size {size}, {order} order", loc="left")
        axes[-1].set_xlabel("speed-up over stock transformers")
        legend_above(figure, axes[0])
