"""The report as tables for papers, in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sharcs_pl.analysis.comparison.methods import SLACK, Spread, Standing, TaskComparison, Versus
from sharcs_pl.core.text import latex as latex_text
from sharcs_pl.core.text import markdown as markdown_text
from sharcs_pl.core.text import one_line, spreadsheet

NONE = "-"


@dataclass(frozen=True)
class Grid:
    """A table of texts; `best` marks the rows (by number) that lead each column."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


def summary(found: TaskComparison) -> Grid:
    """Return a row per method, best at the budget first."""
    head = ("method", "seeds", found.metric, "MACs, of dense", f"at {found.budget:g}x MACs", "area", "oracle")
    rows = tuple(_row(row) for row in found.standings)
    marked: set[tuple[int, int]] = set()
    for column, values in ((4, [r.at_budget for r in found.standings]), (5, [r.area for r in found.standings])):
        known = [(value.mean, number) for number, value in enumerate(values) if value is not None]
        marked |= {(number, column) for mean, number in known if mean == max(known)[0]}
    return Grid(f"{found.task}: {found.metric} against compute", head, rows, frozenset(marked))


def _row(row: Standing) -> tuple[str, ...]:
    oracle = NONE if row.oracle is None else f"{row.oracle.value.mean:.4f} at {row.oracle.cost.mean:.2f}"
    return (
        row.method.name, str(len(row.method.runs)), format_spread(row.value), format_spread(row.cost, 3),
        format_spread(row.at_budget), format_spread(row.area), oracle,
    )  # fmt: skip


def differences(found: TaskComparison) -> Grid | None:
    """Return each method against the dense model and the best that costs no more; None without answers."""
    rows = [
        (row.method.name, versus(row.to_dense), versus(row.to_best), row.to_best.name if row.to_best else NONE)
        for row in found.standings
        if row.to_dense or row.to_best
    ]
    head = ("method", "minus dense [95 %]", "minus the best at no more MACs [95 %]", "which is")
    return Grid(f"{found.task}: differences in {found.metric}, paired bootstrap", head, tuple(rows)) if rows else None


def grids(found: TaskComparison) -> list[Grid]:
    """Return all tables of a task."""
    return [grid for grid in (summary(found), controls(found), differences(found), timings(found)) if grid]


def controls(found: TaskComparison) -> Grid | None:
    """Return each method's rule at the budget beside its controls there; None where no run has any."""
    known = [row for row in found.standings if any(_controls(row).values())]
    names = [name for name, keys in _CONTROLS.items() if any(key in row.controls for row in known for key in keys)]
    rows = [
        (row.method.name, *map(format_spread, (row.at_budget, *(_controls(row)[name] for name in names))))
        for row in known
    ]
    head = ("method", "its own rule", *names)
    return Grid(f"{found.task}: {found.metric} at {found.budget:g}x MACs, by rule", head, tuple(rows)) if rows else None


_CONTROLS = {
    "random, same cost": ("random",),
    "router": ("router",),
    "cascade": ("cascade",),
    "router+cascade": ("router+cascade",),
    "one width or exit for all": ("width", "exit"),
}


def _controls(row: Standing) -> dict[str, Spread | None]:
    """Return the value of each of the controls, None where the method has none at the budget."""
    return {
        name: next((row.controls[key] for key in keys if row.controls.get(key)), None)
        for name, keys in _CONTROLS.items()
    }


def format_spread(value: Spread | None, digits: int = 4) -> str:
    """Format a mean, and its standard deviation over seeds."""
    if value is None:
        return NONE
    return f"{value.mean:.{digits}f}" + (f" ± {value.std:.{digits}f}" if value.std is not None else "")


def versus(found: Versus | None) -> str:
    """Format a difference with its interval."""
    if found is None:
        return NONE
    low, high = found.interval or (0, 0)
    return f"{found.difference:+.4f} " + (f"[{low:+.4f}, {high:+.4f}]" if found.interval else "(other texts)")


def timings(found: TaskComparison) -> Grid | None:
    """Return the table of times measured with ``sharcs bench``; None where nothing was measured."""
    rows = []
    for standing in found.standings:
        for timing in (row for run in standing.method.runs for row in run.timings):
            rows.append(_timing(standing.method.name, timing))
    head = ("method", "contender", "batch", "order", "MACs, of dense", "promised", "measured", "ms, median", "value")
    return Grid(f"{found.task}: measured speed", head, tuple(rows)) if rows else None


def _timing(method: str, row: dict[str, object]) -> tuple[str, ...]:
    def number(key: str, form: str, unit: str = "") -> str:
        value = row.get(key)
        return format(value, form) + unit if isinstance(value, int | float) else NONE

    latency = row.get("latency_ms")
    median = latency.get("p50") if isinstance(latency, dict) else None
    return (
        method, str(row.get("contender", NONE)), number("batch_size", "d"), str(row.get("order", NONE)),
        number("macs_fraction", ".3f"), number("mac_speedup", ".2f", "x"), number("speedup", ".2f", "x"),
        f"{median:.1f}" if isinstance(median, float) else NONE, number("value", ".4f"),
    )  # fmt: skip


_TIMED = (
    "“measured” is the time of stock transformers with the dense run's model over the contender's, the median of "
    "rounds taken in turn; “ms” is of a batch; “value” is of the texts that were timed. packed: only attention sees "
    "padding; stream: samples wait for others of their width."
)


_MOST_RUNS = 4  # that a note names of one set of texts


def different_texts(found: TaskComparison) -> str | None:
    """Return a note on runs evaluated on different texts, and what follows; None where all had the same."""
    if len(found.on_texts) < 2:
        return None
    sets = "; ".join(_runs_named(runs, found) for runs in found.on_texts)
    return (
        f"The runs were evaluated on different texts, or on different labels of them: {sets}. Differences between them "
        "stand without an interval, since no sample of one is that of the other, and chance in the texts is part of "
        "every such difference and of ±. Evaluate all on one file (task.dev=<file>) to compare them."
    )


def _runs_named(runs: Sequence[tuple[str, int]], found: TaskComparison) -> str:
    """Name some runs by their methods, with the seed where a method has several."""
    seeds = {row.method.name: len(row.method.runs) for row in found.standings}
    names = [f"{name} of seed {seed}" if seeds[name] > 1 else name for name, seed in runs]
    more = f" and {len(names) - _MOST_RUNS} more" if len(names) > _MOST_RUNS else ""
    return (", ".join(names[:_MOST_RUNS]) if more else " and ".join(names)) + more


def notes(found: TaskComparison) -> list[str]:
    """Return notes on how the numbers were made."""
    dense = f"the dense model's ({found.dense.name})" if found.dense else "the largest stock model's (no dense run)"
    random = " The rules' table reads their curves alike." if controls(found) else ""
    timed = [_TIMED] if timings(found) else []
    apart = [] if different_texts(found) is None else [str(different_texts(found))]
    return [
        *apart,
        f"MACs are multiply-adds of matrix products per sample, here as a fraction of {dense}: "
        f"{found.dense_macs / 1e6:,.1f} M.",
        f"“{found.metric}” and “MACs, of dense” are of the operating point that the run was trained to use; ± is the "
        "standard deviation over seeds.",
        f"“at {found.budget:g}x MACs” reads the method's curve at {found.budget:g} of dense: linear between neighbours "
        "on its Pareto frontier, which dealing samples to the two at random reaches in expectation; beyond the last "
        f"point that point's value; {NONE} where its cheapest point costs more.{random}",
        "“area” is the mean of that curve over budgets from 0 to 1; below the cheapest point samples are mixed with "
        "the best constant answer, which costs nothing.",
        "The intervals hold the middle 95 % of a paired bootstrap over samples: each draw gives both methods, all "
        "their seeds, the same ones. They are of the operating points in use, and measure chance in the samples, not "
        "in training. The best at no more MACs is the most accurate other method that costs no more.",
        f"Within a budget, or no dearer than another, is also what costs {SLACK:g} of dense more (a router's share).",
        *timed,
        _oracle_note(found),
    ]


def _oracle_note(found: TaskComparison) -> str:
    if any(run.several for row in found.standings for run in row.method.runs):
        return "The oracle takes for each sample the cheapest of the widths or exits with the most right labels."
    return "The oracle takes for each sample the cheapest width or exit that is right, else the cheapest."


def markdown(sections: Sequence[tuple[TaskComparison, Sequence[Path]]], title: str) -> str:
    """Return the report as Markdown; figures by their paths beside it."""
    lines = [f"# {markdown_text(title)}", ""]
    for found, figures in sections:
        lines += [f"## {markdown_text(found.task)}", ""]
        images = [path for path in figures if path.suffix == ".png"]
        lines += [f"![{markdown_text(path.stem)}](figures/{quote(path.name)})" for path in images]
        for grid in grids(found):
            lines += ["", *_markdown_table(grid)]
        lines += ["", *(f"- {markdown_text(note)}" for note in notes(found)), ""]
    return "\n".join(lines)


def _markdown_table(grid: Grid) -> list[str]:
    rows = [
        [
            f"**{markdown_text(cell)}**" if (number, column) in grid.best else markdown_text(cell)
            for column, cell in enumerate(row)
        ]
        for number, row in enumerate(grid.rows)
    ]
    rule = ["---", *["---:"] * (len(grid.head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (map(markdown_text, grid.head), rule, *rows)]


def latex(sections: Sequence[tuple[TaskComparison, Sequence[Path]]]) -> str:
    """Return a `tabular` per table for ``\\input``; it needs the package booktabs."""
    return "\n".join(_latex_table(grid) for found, _ in sections for grid in grids(found))


def _latex_table(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        # After the end of a row LaTeX takes a bracket or a star for an option of it.
        return ("{}" if cells[0].startswith(("[", "*")) else "") + " & ".join(cells) + r" \\"

    rows = [
        line([rf"\textbf{{{latex_text(c)}}}" if (n, i) in grid.best else latex_text(c) for i, c in enumerate(row)])
        for n, row in enumerate(grid.rows)
    ]
    columns = "l" + "r" * (len(grid.head) - 1)
    title = f"% {one_line(grid.title)}"
    start = [title, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line([latex_text(c) for c in grid.head])]
    return "\n".join([*start, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", ""])


def summary_csv(sections: Sequence[tuple[TaskComparison, Sequence[Path]]]) -> str:
    """Return a row per task and method, numbers alone."""
    names = "task,metric,method,seeds,value,value_std,macs_fraction,at_budget,at_budget_std,area,area_std,oracle"
    names += ",oracle_macs_fraction,minus_dense,minus_dense_low,minus_dense_high"
    names += ",best_rival,minus_best,minus_best_low,minus_best_high"
    names += ",random_at_budget,router_at_budget,cascade_at_budget,router+cascade_at_budget,same_for_all_at_budget"
    rows = [_numbers(found, row) for found, _ in sections for row in found.standings]
    return _csv([names.split(","), *rows])


def _numbers(found: TaskComparison, row: Standing) -> list[object]:
    def both(value: Spread | None) -> list[object]:
        return ["", ""] if value is None else [value.mean, "" if value.std is None else value.std]

    def interval(value: Versus | None) -> list[object]:
        return ["", "", ""] if value is None else [value.difference, *(value.interval or ("", ""))]

    oracle = ["", ""] if row.oracle is None else [row.oracle.value.mean, row.oracle.cost.mean]
    head = [found.task, found.metric, row.method.name, len(row.method.runs), *both(row.value), row.cost.mean]
    rival = row.to_best.name if row.to_best else ""
    return [*head, *both(row.at_budget), *both(row.area), *oracle, *interval(row.to_dense), rival,
            *interval(row.to_best), *("" if x is None else x.mean for x in _controls(row).values())]  # fmt: skip


def points_csv(sections: Sequence[tuple[TaskComparison, Sequence[Path]]]) -> str:
    """Return every operating point of every run."""
    rows: list[list[object]] = [["task", "method", "seed", "control", "point", "value", "macs", "macs_fraction"]]
    for found, _ in sections:
        for method in (row.method for row in found.standings):
            rows += [
                [found.task, method.name, run.seed, control, p.name, p.value, p.macs, p.macs / found.dense_macs]
                for run in method.runs
                for control, points in run.curves.items()
                for p in points
            ]
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(spreadsheet, row) for row in rows])
    return text.getvalue()
