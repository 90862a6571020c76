"""The figures of a report: every method's curve in one, and each method beside its controls in the other.

Methods differ in colour, marker and dashes, so that a grey printer and colour-blind eyes lose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.analysis.comparison.methods import CONTROLS, MeanPoint, Standing, TaskComparison, frontier, mean_points
from sharcs_pl.analysis.comparison.runs import OWN
from sharcs_pl.analysis.figures.style import BLUE, DASHES, GREEN, GREY, ORANGE, PURPLE, SETTINGS, VERMILION, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, "#56B4E9", "#8C510A", GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
FORMATS = ("png", "svg")
_SETTINGS = {**SETTINGS, "svg.hashsalt": "sharcs", "font.family": "DejaVu Sans"}
_CONTROL_STYLES = {
    "width": ("one width for all", {"color": "black", "marker": "s", "mfc": "white", "ls": "none"}),
    "exit": ("one exit for all", {"color": "black", "marker": "s", "mfc": "white", "ls": "none"}),
    "random": ("random, same cost", {"color": GREY, "marker": "x", "ls": ":"}),
    "router": ("router", {"color": VERMILION, "marker": "^", "ls": "--", "ms": 4}),
    "router+cascade": ("router+cascade", {"color": PURPLE, "marker": "P", "ls": "-.", "ms": 4}),
    "cascade": ("cascade", {"color": ORANGE, "marker": "v", "ls": "--", "ms": 4}),
}
_MANY = 12  # points of a curve above which their marks are made small


def look(number: int) -> dict[str, Any]:
    """Return a method's colour, marker and dashes; colours repeat after eight, with another marker and other dashes."""
    around = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "ls": DASHES[(number + around) % len(DASHES)],
    }


def looks_of(comparisons: Sequence[TaskComparison]) -> dict[str, dict[str, Any]]:
    """Return a look for each method by its name, equal in every task's figure."""
    rows = [(found, row) for found in comparisons for row in found.standings]
    names = dict.fromkeys(row.method.name for found, row in rows if row.method is not found.dense)
    return {name: look(number) for number, name in enumerate(names)}


def draw_comparison(found: TaskComparison, looks: Mapping[str, dict[str, Any]], folder: Path) -> list[Path]:
    """Draw both figures of a task in both formats, the second only where a method has controls; return the images."""
    height = 3.9 + 0.2 * -(-(len(found.standings) + 1) // _columns(found))  # the legend's rows come on top
    drawn = _saved(folder / found.task, (7.2, height), lambda figure: _methods(figure, found, looks))
    controlled = [row for row in found.standings if _control_names(row)]
    if controlled:
        columns = min(3, len(controlled))
        rows = -(-len(controlled) // columns)
        size = (2.6 * max(columns, 2), 0.9 + 2.4 * rows)
        drawn += _saved(
            folder / f"{found.task}_controls", size, lambda figure: _controls(figure, found, controlled, columns)
        )
    return drawn


def figure_names(found: TaskComparison) -> list[str]:
    """Return the names of the images that ``draw_comparison`` may write."""
    return [f"{found.task}{kind}.{suffix}" for kind in ("", "_controls") for suffix in FORMATS]


def _saved(stem: Path, size: tuple[float, float], draw: Any) -> list[Path]:
    path = stem.with_name(f"{stem.name}.{FORMATS[0]}")
    with canvas(path, size, formats=FORMATS, settings=_SETTINGS) as figure:
        draw(figure)
    return [path.with_suffix(f".{kind}") for kind in FORMATS]


def _methods(figure: Any, found: TaskComparison, looks: Mapping[str, dict[str, Any]]) -> None:
    axes = figure.subplots()
    drawn: list[MeanPoint] = []
    for row in found.standings:
        if row.method is found.dense:
            _dense(axes, row)
            continue
        points = mean_points(row.method, OWN, found.dense_macs)
        style = looks[row.method.name]
        _curve(axes, points, row.method.name, style)
        drawn += points
        if row.oracle:
            axes.plot(row.oracle.cost.mean, row.oracle.value.mean, **(style | {"ls": "none", "mfc": "none"}),
                      ms=9, mew=1.6, zorder=5)  # fmt: skip
    if any(row.oracle for row in found.standings):
        axes.plot([], [], "o", mfc="none", mec="black", ms=9, mew=1.6, label="its oracle (large, open)")
    _begin(axes, found, drawn)
    axes.axvline(found.budget, color=GREY, lw=0.8, ls=(0, (1, 3)), zorder=0)
    axes.set(xlabel="multiply-adds per sample, of dense", ylabel=f"{found.task}: {found.metric}")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=_columns(found))


def _begin(axes: Axes, found: TaskComparison, points: Sequence[MeanPoint]) -> None:
    """Begin the axis a little under what the lower quarter of the methods reach at the budget, where that frees a third
    of the height, and say how many points that leaves out. First exits that only guess would flatten the rest."""
    reached = sorted(row.at_budget.mean for row in found.standings if row.at_budget)
    if not reached:
        return
    dense = [row.value.mean for row in found.standings if row.method is found.dense]
    lowest = min([reached[len(reached) // 4], *dense])
    low, high = axes.get_ylim()
    bottom = lowest - 0.1 * (high - lowest)
    if bottom - low < (high - low) / 3:
        return
    below = len([point for point in points if point.value.mean < bottom])
    axes.set_ylim(bottom=bottom)
    words = f"{below} points lower down not shown" if below > 1 else "1 point lower down not shown"
    axes.annotate(words, (0.99, 0.02), xycoords="axes fraction", ha="right", fontsize=8, color="0.3")


def _columns(found: TaskComparison) -> int:
    longest = max(len(row.method.name) for row in found.standings)
    return 4 if longest < 14 else 3 if longest < 24 else 2 if longest < 44 else 1


def _dense(axes: Axes, row: Standing) -> None:
    """Draw the dense model: a star, and a line across that shows what is lost against it."""
    axes.axhline(row.value.mean, color="black", lw=0.8, ls="--", zorder=1)
    error = row.value.std or 0
    axes.errorbar(
        row.cost.mean, row.value.mean, yerr=error, fmt="*", color="black", ms=13, label=row.method.name, zorder=6
    )


def _curve(axes: Axes, points: Sequence[MeanPoint], name: str, style: dict[str, Any]) -> None:
    """Draw a line along the frontier, a mark at every point (pale where another is cheaper and better), and bars of one
    standard deviation where there are seeds."""
    kept = set(frontier([(p.cost.mean, p.value.mean) for p in points]))
    best = [p for p in points if (p.cost.mean, p.value.mean) in kept]
    rest = [p for p in points if (p.cost.mean, p.value.mean) not in kept]
    small = 3.5 if len(points) > _MANY else 6
    _marks(axes, best, style | {"ms": small}, name)
    _marks(axes, rest, style | {"ms": small, "ls": "none", "alpha": 0.3}, None)


def _marks(axes: Axes, points: Sequence[MeanPoint], style: dict[str, Any], label: str | None) -> None:
    if not points:
        return
    x, y = [p.cost.mean for p in points], [p.value.mean for p in points]
    deviations = [p.value.std or 0 for p in points]
    bars = {"yerr": deviations, "capsize": 2, "elinewidth": 0.8} if any(deviations) else {}
    axes.errorbar(x, y, label=label, **style, **bars)


def _control_names(row: Standing) -> list[str]:
    return [name for name in CONTROLS if any(run.curves.get(name) for run in row.method.runs)]


def _controls(figure: Any, found: TaskComparison, rows: Sequence[Standing], columns: int) -> None:
    """Draw a panel per method, with its curve and its controls."""
    grid = figure.subplots(-(-len(rows) // columns), columns, squeeze=False, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for axes, row in zip(grid.flat, rows, strict=False):
        for control in _control_names(row):
            label, style = _CONTROL_STYLES[control]
            _marks(axes, mean_points(row.method, control, found.dense_macs), {"ms": 5, **style}, label)
        _curve(axes, mean_points(row.method, OWN, found.dense_macs), "its own rule", {**look(0), "zorder": 4})
        if row.oracle:
            axes.plot(row.oracle.cost.mean, row.oracle.value.mean, "D", mfc="none", mec=GREEN, ms=8, label="oracle")
        axes.set_title(_wrapped(row.method.name), fontsize=9)
        axes.grid(alpha=0.3)
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    for axes in list(grid.flat)[len(rows) :]:
        axes.set_axis_off()
    for axes in list(grid.flat)[max(len(rows) - columns, 0) : len(rows)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    figure.supxlabel("multiply-adds per sample, of dense", fontsize=10)
    figure.supylabel(f"{found.task}: {found.metric}", fontsize=10)
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=3)


def _wrapped(name: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, 34)[:3])
