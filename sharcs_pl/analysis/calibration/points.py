"""Operating points side by side on one set of texts, with their gains, costs and risks.

Legend: `S` samples, `W` rungs, `C` classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sharcs_pl.analysis.calibration.budget import Dial
from sharcs_pl.analysis.calibration.risk import upper_bound
from sharcs_pl.analysis.calibration.views import Views, decided
from sharcs_pl.analysis.figures.style import BLUE, GREEN, ORANGE, WIDTH, canvas, legend_below
from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.core.screen import new_table
from sharcs_pl.evaluation.report import Point, Report, evaluate

CURVE = 60  # budgets along the curve of a figure


@dataclass(frozen=True)
class Row:
    """An operating point on a set of samples.

    `report` is the result of `evaluate`. A classifier also has `accuracy`; `drop`, the top rung's accuracy less this
    one's; `risk`, the share of samples that the top rung gets right and this point wrong; `bound`, the exact upper
    bound of the risk, and so of the drop; and `holds`, False where the texts chose the thresholds or the epoch and so
    flatter the bound. `milliseconds` is the mean latency of a text, where it was measured.
    """

    name: str
    rule: DecisionRule
    report: Report
    accuracy: float | None = None
    drop: float | None = None
    risk: float | None = None
    bound: float | None = None
    holds: bool = True
    milliseconds: float | None = None

    @property
    def shares(self) -> list[float]:
        """The share of the samples per rung, narrow first."""
        return [rung.share for rung in self.report.rungs]

    def to_json(self, widths: Sequence[str]) -> dict[str, Any]:
        """Return what is kept with the model beside the thresholds, as plain types, MACs as a fraction of dense."""
        found = {
            "metric": self.report.metric,
            "value": self.report.routed.value,
            "macs_fraction": self.report.routed.macs_fraction,
            "shares": dict(zip(widths, self.shares, strict=True)),
            "accuracy": self.accuracy,
            "accuracy_drop": self.drop,
            "risk": self.risk,
            "risk_bound": self.bound,
            "risk_bound_holds": None if self.bound is None else self.holds,
            "regret": self.report.regret,
            "latency_ms": self.milliseconds,
        }
        return {key: value for key, value in found.items() if value is not None}


def measure(name: str, rule: DecisionRule, views: Views, confidence: float) -> Row:
    """Measure one point; its risk's bound holds with `confidence`."""
    found, outcomes, split = decided(views, rule), views.outcomes, views.task.validation[0]
    report = evaluate({split: found}, replace(views.task, validation=(split,)), views.cost, views.seed)
    row = Row(name, rule, report)
    if views.latency is not None:
        mean = float(views.milliseconds(found).mean())
        row = replace(row, milliseconds=None if math.isnan(mean) else mean)  # another rule's passes are not timed
    if not views.task.kind.has_classes:
        return row
    right, full = views.quality(found) >= 1, outcomes.quality[:, -1] >= 1
    accuracy, errors = float(right.mean()), int((full & ~right).sum())
    return replace(
        row,
        accuracy=accuracy,
        drop=float(full.mean()) - accuracy,
        risk=errors / len(right),
        bound=upper_bound(errors, len(right), confidence),
    )


def points_table(rows: Sequence[Row], widths: Sequence[str], confidence: float, title: str) -> RenderableType:
    """Return a table of a model's points, the last one standing out, with every rung alone and the oracle, and a table
    of their settings. Both fit a terminal of 80 columns."""
    report, classifier = rows[0].report, rows[0].drop is not None
    names = ("", report.metric, "of dense", "regret", *(("drop", "at most") if classifier else ()))
    table = new_table(title, names, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(row.name, *_cells(row), style="bold green" if row is rows[-1] else "")
    table.add_section()
    for rung, width in enumerate(widths):
        top = " (full)" if rung == len(widths) - 1 else ""
        table.add_row(f"width {width}{top}", *_point(report.rungs[rung]))
    if report.oracle:
        table.add_row("oracle", *_point(report.oracle))
    notes = [Text(line, style="dim") for line in _footnotes(report, classifier, confidence)]
    if not all(row.holds for row in rows):
        notes.append(Text("*: no promise; these texts chose the point's thresholds, or the epoch", style="yellow"))
    return Group(table, _settings_table(rows, widths), _random_table(rows), *notes)


def _settings_table(rows: Sequence[Row], widths: Sequence[str]) -> Table:
    """Return the table of thresholds, of the shares of samples per rung, and of latencies."""
    timed = any(row.milliseconds is not None for row in rows)
    names = ("", "thresholds", *(f"width {width}" for width in widths), *(("ms/text",) if timed else ()))
    table = new_table("thresholds and shares of texts", names, overflow="fold")
    for row in rows:
        shares = [f"{share:.1%}" for share in row.shares]
        time = ["" if row.milliseconds is None else f"{row.milliseconds:.2f}"] if timed else []
        style = "bold green" if row is rows[-1] else ""
        table.add_row(row.name, show_rule(row.rule), *shares, *time, style=style)
    return table


def _random_table(rows: Sequence[Row]) -> Table:
    """Return the table of random routing at each point's own cost, which each point must beat."""
    names = ("", rows[0].report.metric, "of dense")
    table = new_table("the same shares dealt to random texts", names, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(row.name, *_point(row.report.random_point), style="bold green" if row is rows[-1] else "")
    return table


def show_rule(rule: DecisionRule) -> str:
    """Return a rule's thresholds, narrow rungs first: membership probabilities of the router, and after ``sure`` the
    certainties at which a cascade stops."""
    routed = "likeliest" if rule.starts is None else " ".join(_probability(logit) for logit in rule.starts)
    if not rule.cascades:
        return routed
    stops = f"sure {' '.join(f'{x:.4g}' for x in rule.stops or ())}{', averaged' if rule.average else ''}"
    return f"{routed}; {stops}" if rule.routed else stops


def _probability(logit: float) -> str:
    if abs(logit) >= NEVER:
        return "never" if logit > 0 else "always"
    return f"{1 / (1 + math.exp(min(-logit, 700))):.4g}"  # a double ends at exp(709)


def _cells(row: Row) -> list[str]:
    report = row.report
    cells = [*_point(report.routed)]
    cells.append("" if report.regret is None else f"{report.regret:.4f}")
    if row.drop is not None and row.bound is not None:
        cells += [f"{row.drop:+.4f}", f"{row.bound:.4f}{'' if row.holds else '*'}"]
    return cells


def _point(point: Point) -> tuple[str, str]:
    return f"{point.value:.4f}", f"{point.macs_fraction:.1%}"


def _footnotes(report: Report, classifier: bool, confidence: float) -> list[str]:
    notes = ["of dense: multiply-adds; regret: to the oracle; thresholds: membership probabilities"]
    if report.metric_name != report.metric:
        notes.append(f"{report.metric}: {report.metric_name}")
    if classifier:
        other = "" if report.metric == "accuracy" else f"; {report.metric} is only shown, it is promised nothing"
        notes.append(
            f"drop: in accuracy, against full width; at most: with confidence {confidence:g}, the exact bound of "
            f"P(full width right, routed wrong){other}"
        )
    return notes


def draw_points(rows: Sequence[Row], views: Views, path: Path) -> Path:
    """Draw the metric against MACs, as a fraction of dense, along the dial, with points, widths and the oracle."""
    with canvas(path, (WIDTH, 4.1)) as figure:
        axes = figure.subplots()
        if views.cost.has_router:
            axes.plot(*_dialled(views), color=BLUE, label="the router's dial, on these texts")
        report = rows[0].report
        macs, values = zip(*((rung.macs_fraction, rung.value) for rung in report.rungs), strict=True)
        axes.plot(macs, values, "s", color=BLUE, mfc="white", label="all at one width")
        _plot_points(axes, rows)
        if report.oracle:
            place = report.oracle.macs_fraction, report.oracle.value
            axes.plot(*place, "D", mfc="none", mec=GREEN, mew=1.8, ms=7, label="oracle")
        axes.set(xlabel="multiply-adds per sample, of dense", ylabel=f"{report.task}: {report.metric_name}")
        axes.grid(alpha=0.3)
        axes.margins(0.08)
        legend_below(figure, axes, columns=2)
    return path


def _dialled(views: Views) -> tuple[list[float], list[float]]:
    """Return costs and values along the router's dial."""
    dial = Dial.of(views.outcomes)
    budgets = np.linspace(*dial.reach, CURVE)
    chosen = [views.outcomes.rungs(np.array(dial.spend(float(budget) + 1e-9, views.metric))) for budget in budgets]
    spent = [float(views.outcomes.costs[np.arange(len(rungs)), rungs].mean()) for rungs in chosen]
    return spent, [views.metric(rungs) for rungs in chosen]


def _plot_points(axes: Any, rows: Sequence[Row]) -> None:
    """Plot every point with a mark of its own, named in the legend; beside the marks the names would collide."""
    for number, row in enumerate(rows):
        new = number == len(rows) - 1
        mark = "*" if new else "ov^<>pPXh"[number % 9]
        place = row.report.routed.macs_fraction, row.report.routed.value
        face = ORANGE if new else "white"
        axes.plot(*place, mark, ms=15 if new else 7, mfc=face, mec="black", label=row.name, zorder=3, linestyle="none")


def measure_all(points: Mapping[str, DecisionRule], views: Views, confidence: float) -> list[Row]:
    """Measure every point, in the order given."""
    return [measure(name, rule, views, confidence) for name, rule in points.items()]
