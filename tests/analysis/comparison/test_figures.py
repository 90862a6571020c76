"""A report's figures: what their axes show, and that a method looks the same in every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.analysis.comparison import figures as comparison_figures
from sharcs_pl.analysis.comparison.figures import draw_comparison, looks_of
from sharcs_pl.analysis.comparison.methods import TaskComparison, compare_methods, group_runs
from sharcs_pl.analysis.comparison.runs import OWN, read_run
from tests.analysis.comparison.made_runs import make_run

pytest.importorskip("matplotlib")

GOOD = {OWN: [(0.4, 0.8), (0.5, 0.82), (0.9, 0.88)]}
GUESSING_FIRST = {OWN: [(0.2, 0.5), (0.3, 0.51), (0.49, 0.8), (0.9, 0.87)]}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The matplotlib figures that were drawn."""
    drawn: list[Any] = []
    saved = comparison_figures._saved

    def spying(stem: Path, size: tuple[float, float], draw: Any) -> list[Path]:
        return saved(stem, size, lambda figure: (draw(figure), drawn.append(figure)))

    monkeypatch.setattr(comparison_figures, "_saved", spying)
    return drawn


def compared(folder: Path, task: str, curves: dict[str, dict[str, list[tuple[float, float]]]]) -> TaskComparison:
    runs = [make_run(folder / task / name, name, task=task, points=points) for name, points in curves.items()]
    dense = make_run(folder / task / "dense", "dense", task=task, widths=(1.0,), cost=1.0, right=0.9, oracle=False)
    named = [(path.name, read_run(path)) for path in (*runs, dense)]
    return compare_methods(group_runs(named), 0.5, 20, 0)


def test_first_exits_that_guess_do_not_stretch_the_axis(tmp_path: Path, figures: list[Any]) -> None:
    found = compared(tmp_path, "mrpc", {"sharcs": GOOD, "pabee": GUESSING_FIRST})
    draw_comparison(found, looks_of([found]), tmp_path)
    (axes,) = figures[0].axes
    assert 0.7 < axes.get_ylim()[0] < 0.8
    assert [text.get_text() for text in axes.texts] == ["2 points lower down not shown"]


def test_where_nothing_lies_far_below_every_point_is_shown(tmp_path: Path, figures: list[Any]) -> None:
    found = compared(tmp_path, "mrpc", {"sharcs": GOOD, "slimmable": {OWN: [(0.4, 0.7), (1.0, 0.88)]}})
    draw_comparison(found, looks_of([found]), tmp_path)
    (axes,) = figures[0].axes
    assert axes.get_ylim()[0] < 0.7
    assert not axes.texts


def test_a_method_looks_the_same_in_the_figures_of_two_tasks(tmp_path: Path, figures: list[Any]) -> None:
    """Their rows are sorted by what they reach, which differs between tasks."""
    worse = {OWN: [(0.3, 0.6), (0.5, 0.7), (0.9, 0.8)]}
    first = compared(tmp_path, "mrpc", {"sharcs": GOOD, "pabee": worse})
    second = compared(tmp_path, "sst2", {"sharcs": worse, "pabee": GUESSING_FIRST})
    assert [row.method.name for row in first.standings] != [row.method.name for row in second.standings]
    looks = looks_of([first, second])
    for found in (first, second):
        draw_comparison(found, looks, tmp_path)
    colours = []
    for figure in figures:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        pairs = zip(handles, labels, strict=True)
        colours.append({label: handle[0].get_color() for handle, label in pairs if label in looks})
    assert colours[0] == colours[1]
    assert len(set(colours[0].values())) == 2


def test_every_column_of_controls_has_its_costs_below(tmp_path: Path, figures: list[Any]) -> None:
    """Four panels in three columns: the second and the third end a row higher."""
    curves = {name: {**GOOD, "random": GOOD[OWN]} for name in ("sharcs", "slimmable", "pabee", "deebert")}
    found = compared(tmp_path, "mrpc", curves)
    draw_comparison(found, looks_of([found]), tmp_path)
    panels = [axes for axes in figures[1].axes if axes.axison]
    shown = [any(label.get_visible() for label in axes.get_xticklabels()) for axes in panels]
    assert shown == [False, True, True, True]
