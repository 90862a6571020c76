"""The table at the end of a run."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sharcs_pl.core.screen import new_table
from sharcs_pl.data.files import short_name
from sharcs_pl.evaluation.predictions import Cost, Predictions
from sharcs_pl.evaluation.report import Point, Report
from sharcs_pl.evaluation.router_note import constant_note, router_note


def report_table(report: Report, split: str = "validation") -> RenderableType:
    """Return a rich table of the metric, share of samples, MACs per sample and their fraction of dense."""
    title = f"{report.task}: {report.metric_name} and cost, {split} split"
    table = new_table(title, ("", report.metric, "samples", "MACs/sample", "of dense"))
    routes = len(report.rungs) > 1
    if routes:
        _add(table, "routed" if report.rule == "router" else report.rule, report.routed, "100%", style="bold green")
        table.add_section()
    for rung in report.rungs:
        _add(table, rung.title, rung, f"{rung.share:.1%}" if routes else "100%")
    if routes:
        table.add_section()
        _add(table, "random, same shares", report.random_point, "")
        if report.oracle:
            _add(table, "oracle", report.oracle, "")
        if report.agreement:
            _add(table, "oracle by agreement", report.agreement, "")
    rules = [rules_table(report)] if report.rules else []
    parts = [*_footnotes(report), *rules]
    return Group(table, *parts) if parts else table


def rules_table(report: Report) -> Table:
    """Return a rich table of the rules that the model can have, at a few budgets, with the interval of the difference
    to full width at the middle one."""
    budgets = sorted({point.budget for point in report.rules})
    middle = budgets[len(budgets) // 2]
    names = ("", *(f"{budget:g}" for budget in budgets), f"against full at {middle:g}, 95 %")
    table = new_table(f"{report.metric_name} by rule, at budgets of dense", names)
    for name in dict.fromkeys(point.rule for point in report.rules):
        cells = {point.budget: point for point in report.rules if point.rule == name}
        at = cells[middle]
        values = (f"{cells[budget].value:.4f}" for budget in budgets)
        interval = f"{at.minus_full:+.4f} [{at.low:+.4f}, {at.high:+.4f}]"
        table.add_row(name, *values, interval, style="bold" if name == report.rule else "")
    return table


def shares_table(task: str, split: str, predictions: Predictions, cost: Cost) -> RenderableType:
    """Return a rich table of the routed shares of a split whose labels are hidden, and of their cost."""
    title = f"{task}: {len(predictions.rungs):,} predictions, {split} split"
    table = new_table(title, ("", "samples", "of dense"))
    table.add_row("routed", "100%", f"{predictions.macs_fraction(cost):.1%}", style="bold green")
    shares = predictions.shares(len(cost.ladder))
    for width, share in zip(cost.ladder.labels(), shares, strict=True):
        table.add_row(f"width {width}", f"{share:.1%}", "")
    note = constant_note(cost.ladder.labels(), shares) if cost.has_router and len(shares) > 1 else None
    return Group(table, _warning(note)) if note else table


def _add(table: Table, name: str, point: Point, samples: str, style: str = "") -> None:
    cells = (f"{point.value:.4f}", samples, f"{point.macs / 1e6:,.1f} M", f"{point.macs_fraction:.1%}")
    table.add_row(name, *cells, style=style)


def _footnotes(report: Report) -> list[Text]:
    lines = []
    if report.regret is not None and len(report.rungs) > 1:
        lines.append(f"regret to the oracle {report.regret:.4f}")
    if report.router_auc is not None:
        lines.append(f"router AUC for planted difficulty {report.router_auc:.4f}")
    notes = [" · ".join(lines)] if lines else []
    if report.positive is not None and report.metric != "f1":
        value = next(iter(report.all_metrics.values()))["routed"]["f1"]
        notes.append(f"f1 of {short_name(report.positive)} {value:.4f}")
    note = router_note(report)
    return [*(Text(line, style="dim") for line in notes), *([_warning(note)] if note else [])]


def _warning(note: str) -> Text:
    return Text(note, style="yellow")
