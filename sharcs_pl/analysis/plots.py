"""The figures of a run: metric against cost, and bucket sizes per epoch. They need the extra ``[plots]``.

Colours are Okabe and Ito's, which colour-blind readers tell apart; shapes differ too, for print.
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

from sharcs_pl.analysis.evaluation import Report

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#666666"
RUNGS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#D55E00", "#F0E442", GREY)


def have_matplotlib() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_figures(report: Report, plan_csv: Path, folder: Path) -> list[Path]:
    """Draw every figure of a routed run into ``folder``; returns the files."""
    folder.mkdir(exist_ok=True)
    return [draw_cost(report, folder / "metric_vs_macs.png"), draw_buckets(plan_csv, folder / "buckets.png")]


def draw_cost(report: Report, path: Path) -> Path:
    """The metric against MACs as a fraction of dense: rungs, routed, random routing and the oracle."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.6), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [rung.macs_fraction for rung in report.rungs], [rung.value for rung in report.rungs],
        "o-", color=BLUE, label="all at one width",
    )  # fmt: skip
    for rung in report.rungs:
        axes.annotate(
            f"{rung.width:.3g}", (rung.macs_fraction, rung.value), (4, -12), textcoords="offset points", color=BLUE
        )
    routed = report.routed
    axes.plot(routed.macs_fraction, routed.value, "*", ms=15, color=ORANGE, label="routed", zorder=3)
    axes.plot(routed.macs_fraction, report.random["value"], "x", ms=8, color=GREY, label="random, same shares")
    if report.oracle:
        axes.plot(report.oracle.macs_fraction, report.oracle.value, "D", color=GREEN, label="oracle")
    axes.set(xlabel="multiply-adds per sample, of dense", ylabel=report.metric, title=report.task)
    axes.set_xlim(0, 1.08)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
    return path


def draw_buckets(plan_csv: Path, path: Path) -> Path:
    """How many training samples each rung was given in each epoch, stacked."""
    from matplotlib.figure import Figure

    with plan_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(5.4, 3.2), dpi=160, layout="constrained")
    axes = figure.subplots()
    epochs, below = [int(row["epoch"]) for row in rows], [0] * len(rows)
    for colour, name in zip(RUNGS, [key for key in rows[0] if key.startswith("width_")], strict=False):
        sizes = [int(row[name]) for row in rows]
        axes.bar(epochs, sizes, bottom=below, color=colour, edgecolor="white", label=name.replace("_", " "))
        below = [a + b for a, b in zip(below, sizes, strict=True)]
    axes.set(xlabel="epoch", ylabel="training samples", title="buckets")
    axes.set_xticks(epochs)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    figure.savefig(path)
    return path
