"""The figures of a run: metric against cost, bucket sizes and training scores per epoch, and the router's samples."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from sharcs_pl.analysis.figures.sample_plots import draw_calibration, draw_extremes
from sharcs_pl.analysis.figures.samples import Names
from sharcs_pl.analysis.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    WIDTH,
    canvas,
    colour,
    have_matplotlib,
    legend_above,
    legend_below,
    outline,
    rung_style,
)
from sharcs_pl.core.hardness import SCORES
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 12  # epochs at most in the figure of scores
BINS = 40


@dataclass(frozen=True)
class FigureInputs:
    """Inputs of the figures beside the predictions; a figure whose file is None or missing is left out.

    Attributes: folder takes the figures; widths, the rungs' labels, narrow first; routed, whether there is a router to
    draw; plan_csv and history, the run's files; bounds, one (lo, hi) of the hardness score per rung; score, its name;
    labels, the task's classes (None for regression, with label_range as its least and greatest score).
    """

    folder: Path
    widths: Sequence[str]
    routed: bool = True
    plan_csv: Path | None = None
    history: Path | None = None
    bounds: Sequence[Sequence[float]] = ()
    score: str = "confidence"
    labels: tuple[str, ...] | None = None
    label_range: tuple[float, float] | None = None


def draw_run(
    report: Report, predictions: Predictions, texts: Sequence[tuple[str, ...]], run: FigureInputs
) -> list[Path]:
    """Draw every figure of a routed model into ``run.folder``; return the images, none for a single rung or without the
    extra ``[plots]``.

    Args:
        report: the report on the split.
        predictions: the predictions on the split.
        texts: the texts of the split, each at the place of its uid.
        run: everything else.
    """
    if len(run.widths) < 2 or not have_matplotlib():
        return []
    run.folder.mkdir(parents=True, exist_ok=True)
    names = Names(run.widths, run.labels, run.label_range)
    drawn = [draw_cost(report, run.widths, run.folder / "metric_vs_macs.png")]
    if not run.routed:
        return drawn
    if run.plan_csv is not None and run.plan_csv.exists():
        drawn.append(draw_buckets(run.plan_csv, run.folder / "buckets.png"))
    if run.history is not None and run.history.exists():
        drawn.append(draw_scores(run, run.folder / "score_histograms.png"))
    drawn.append(draw_calibration(predictions, names, run.folder / "router_calibration.png"))
    return [*drawn, draw_extremes(predictions, texts, names, run.folder / "easiest_hardest.png")]


def draw_cost(report: Report, widths: Sequence[str], path: Path) -> Path:
    """Draw the metric against MACs as a fraction of dense: rungs, routed, random routing and the oracle."""
    with canvas(path, (WIDTH, 3.9)) as figure:
        axes = figure.subplots()
        x, y = [rung.macs_fraction for rung in report.rungs], [rung.value for rung in report.rungs]
        axes.plot(x, y, "o-", color=BLUE, label=f"all at one {report.kind}")
        _plot_routes(axes, report)
        axes.set(xlabel="multiply-adds per sample, of dense", ylabel=f"{report.task}: {report.metric_name}")
        axes.set_xlim(0, 1.06 * max(1.0, *x))
        axes.set_ylim(*_limits(report))
        axes.grid(alpha=0.3)
        # Widths stand on an axis of their own: beside the points they would collide with each other's.
        top = axes.secondary_xaxis("top")
        close = min(b - a for a, b in pairwise(x)) < 0.08
        top.set_xticks(x, list(widths), rotation=90 if close else 0)
        top.set_xlabel(report.kind)
        legend_below(figure, axes, columns=2)
    return path


def _plot_routes(axes: Axes, report: Report) -> None:
    """Plot the router, random routing with its standard deviation, and the oracle, each at its own cost.

    They may coincide (a router that sends all one way), so the smaller marks stand before the larger.
    """
    routed, random = report.routed, report.random_point
    axes.plot(routed.macs_fraction, routed.value, "*", ms=16, mfc=ORANGE, mec="black", label="routed", zorder=3)
    axes.errorbar(
        random.macs_fraction, random.value, report.random["std"], fmt="x", color="black", ms=6, capsize=4,
        label="random, same shares (± std)", zorder=4,
    )  # fmt: skip
    if report.oracle:
        place = report.oracle.macs_fraction, report.oracle.value
        axes.plot(*place, "D", mfc="none", mec=GREEN, mew=1.8, ms=7, label="oracle", zorder=5)


def _limits(report: Report) -> tuple[float, float]:
    """Return limits with room for every point and error bar; differences under two points are not blown up."""
    value, std = report.random["value"], report.random["std"]
    seen = [value - std, value + std, report.routed.value, *(rung.value for rung in report.rungs)]
    seen += [report.oracle.value] if report.oracle else []
    missing = max(0.0, 0.02 - (max(seen) - min(seen))) / 2
    low, high = min(seen) - missing, max(seen) + missing
    beyond = max(0.0, high - max(1.0, *seen))  # no metric exceeds 1
    low, high = low - beyond, high - beyond
    return low - 0.1 * (high - low), high + 0.1 * (high - low)


def draw_buckets(plan_csv: Path, path: Path) -> Path:
    """Draw the number of training samples that each rung was given in each epoch, stacked."""
    from matplotlib.ticker import StrMethodFormatter

    with plan_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [key for key in rows[0] if key.startswith("width_")]
    epochs, below = [int(row["epoch"]) for row in rows], np.zeros(len(rows))
    with canvas(path, (WIDTH, 3.4)) as figure:
        axes = figure.subplots()
        for rung, name in enumerate(names):
            sizes = np.array([int(row[name]) for row in rows])
            axes.bar(epochs, sizes, bottom=below, label=name.replace("_", " "), **rung_style(rung))
            below = below + sizes
        axes.set(xlabel="epoch", ylabel="training samples")
        axes.set_xlim(min(epochs) - 0.6, max(epochs) + 0.6)
        axes.set_xticks(epochs[:: math.ceil(len(epochs) / PANELS)])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        legend_below(figure, axes)
    return path


def draw_scores(run: FigureInputs, path: Path) -> Path:
    """Draw histograms of each epoch's training scores, by the rung that each sample ran on, under the bounds."""
    from matplotlib.ticker import StrMethodFormatter

    assert run.history is not None
    table = pq.read_table(run.history, columns=["epoch", "score", "rung"])
    epoch, score, rung = (table[name].to_numpy() for name in ("epoch", "score", "rung"))
    shown = spread(np.unique(epoch).tolist(), PANELS)
    columns = len(shown) if len(shown) < 3 else min((3, 4), key=lambda number: -len(shown) % number)
    rows = -(-len(shown) // columns)
    high = float(np.nanmax(score, initial=0.1)) if SCORES[run.score].high > 1 else 1.0
    kind = run.score if run.labels is not None else "closeness to the label"
    with canvas(path, (WIDTH, 1.2 + (1.3 + 1.1 * _strips(run)) * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for panel, number in zip(panels, shown, strict=False):
            here = epoch == number
            _score_panel(panel, [score[here & (rung == r)] for r in range(len(run.widths))], run, high)
            panel.set_title(f"epoch {number}", pad=8 + 75 * _strips(run), fontsize=9)
        panels[0].set_ylim(0.5, 2 * max(panel.dataLim.y1 for panel in panels))
        panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for panel in panels[len(shown) :]:
            panel.set_visible(False)
        figure.supxlabel(f"training score: {kind}", fontsize=10)
        figure.supylabel("samples", fontsize=10)
        legend_above(figure, panels[0])
    return path


def _score_panel(axes: Axes, scores: list[np.ndarray], run: FigureInputs, high: float) -> None:
    """Draw one epoch: an outline per rung, and above it a strip per rung from its lower to its upper bound.

    Counts stand on a logarithmic axis: most samples are soon learnt, and the few that are not would vanish.
    """
    from matplotlib.ticker import StrMethodFormatter

    edges, filled = np.linspace(0, high, BINS + 1), len(scores) < 4
    for rung, width in enumerate(run.widths):
        style = {"label": f"width {width}", **outline(rung, filled)}
        axes.stairs(np.histogram(scores[rung], edges)[0], edges, baseline=0.5, **style)
    axes.set(xlim=(0, high), yscale="log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.tick_params(labelsize=8)
    tall = _strips(run) / max(1, len(run.bounds))
    for rung, (low, up) in enumerate(run.bounds):
        low, up = min(low, high), min(up, high)
        place = {"align": "edge", "transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.bar(low, 0.8 * tall, up - low, bottom=1.03 + tall * rung, color=colour(rung), **place)
        for bound in {low, up} - {0.0, high}:
            axes.axvline(bound, color="black", lw=0.8, ls=":")


def _strips(run: FigureInputs) -> float:
    """Return the room for the bounds over a panel, as a share of the panel's height."""
    return min(0.3, 0.06 * len(run.bounds))


def spread(values: list[int], most: int) -> list[int]:
    """Return at most ``most`` of ``values``, evenly chosen, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, most).round().astype(int)]
