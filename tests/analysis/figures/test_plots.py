from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import sharcs_pl.analysis.figures.plots as plots
import sharcs_pl.analysis.figures.sample_plots as sample_plots
from sharcs_pl.analysis.figures.plots import FigureInputs, draw_buckets, draw_cost, draw_run, draw_scores, spread
from sharcs_pl.analysis.figures.sample_plots import draw_calibration, draw_extremes
from sharcs_pl.analysis.figures.samples import Names
from sharcs_pl.analysis.figures.style import DASHES, HATCHES, RUNGS, canvas, have_matplotlib
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import Report, evaluate
from tests.evaluation.made import COST, predictions

pytestmark = pytest.mark.skipif(not have_matplotlib(), reason="needs the extra [plots]")

WIDTHS = ["0.25", "1"]
TEXTS = [
    ("😀 🚀 costs $5 or $\\alpha$ 7",),
    ("مرحبا بالعالم هذا نص عربي",),
    ("汉字测试" * 40,),
    ("W" * 200,),
    ("",),
]


def report() -> Report:
    return evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1)


@pytest.fixture
def inputs(tmp_path: Path) -> FigureInputs:
    (tmp_path / "plan.csv").write_text("epoch,steps,routed,width_0.25,width_1\n0,3,False,0,20\n1,4,True,12,8\n")
    columns = {"epoch": [0, 0, 1, 1], "uid": [0, 1, 0, 1], "score": [0.2, 0.9, 0.86, 1.0], "rung": [1, 1, 0, 1]}
    pq.write_table(pa.table(columns), tmp_path / "history.parquet")
    return FigureInputs(
        folder=tmp_path / "figures",
        widths=WIDTHS,
        plan_csv=tmp_path / "plan.csv",
        history=tmp_path / "history.parquet",
        bounds=[[0.8, 1.0], [0.0, 0.8]],
        labels=("negative", "a class with a very long name that no column holds"),
    )


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The matplotlib figures that were drawn."""
    drawn: list[Any] = []

    @contextmanager
    def spying(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with canvas(*args, **kwargs) as figure:
            drawn.append(figure)
            yield figure

    monkeypatch.setattr(plots, "canvas", spying)
    monkeypatch.setattr(sample_plots, "canvas", spying)
    return drawn


def is_clipped(path: Path) -> bool:
    """Whether anything but white touches the edge of an image."""
    from matplotlib.image import imread

    pixels = imread(path)
    return any(bool((edge < 1).any()) for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def test_every_figure_is_drawn_whole_and_without_a_warning(inputs: FigureInputs) -> None:
    """Characters that no font has included: warnings are errors here."""
    drawn = draw_run(report(), predictions(), TEXTS, inputs)
    names = ["metric_vs_macs", "buckets", "score_histograms", "router_calibration", "easiest_hardest"]
    assert [path.name for path in drawn] == [f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert {path.name for path in inputs.folder.iterdir()} == {path.name for path in drawn} | {"easiest_hardest.tsv"}
    assert [path.name for path in drawn if is_clipped(path)] == []


def test_a_figure_without_its_file_is_left_out(inputs: FigureInputs, tmp_path: Path) -> None:
    drawn = draw_run(report(), predictions(), TEXTS, replace(inputs, history=None, plan_csv=tmp_path / "none.csv"))
    assert [path.stem for path in drawn] == ["metric_vs_macs", "router_calibration", "easiest_hardest"]


def test_a_single_rung_has_nothing_to_draw(inputs: FigureInputs) -> None:
    assert draw_run(report(), predictions(), TEXTS, replace(inputs, widths=["1"])) == []
    assert not inputs.folder.exists()


def test_a_regression_is_drawn_too(inputs: FigureInputs) -> None:
    values = replace(predictions(), logits=torch.rand(5, 2, 1), labels=torch.rand(5))
    found = evaluate({"validation": values}, GLUE["stsb"], COST, seed=1)
    pairs = [(*texts, "second") for texts in TEXTS]
    drawn = draw_run(found, values, pairs, replace(inputs, labels=None, label_range=(0.0, 5.0)))
    assert len(drawn) == 5
    assert "text_pair" in (inputs.folder / "easiest_hardest.tsv").read_text().splitlines()[0]


def test_the_cost_figure_shows_every_point_within_its_limits(tmp_path: Path, figures: list[Any]) -> None:
    found = report()
    draw_cost(found, WIDTHS, tmp_path / "cost.png")
    (axes,) = figures[0].axes
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    assert low < found.random["value"] - found.random["std"]
    points = [(x, y) for line in axes.lines for x, y in line.get_xydata()]
    expected = [found.routed, *found.rungs]
    assert found.oracle is not None
    for point in (*expected, found.oracle):
        assert (pytest.approx(point.macs_fraction), pytest.approx(point.value)) in points
    assert all(left <= x <= right and low < y < high for x, y in points)
    (bar,) = (c for c in axes.containers if c.has_yerr)
    (segment,) = bar.lines[2][0].get_segments()
    spread_of_random = [found.random["value"] - found.random["std"], found.random["value"] + found.random["std"]]
    assert [y for _, y in segment] == pytest.approx(spread_of_random)


def test_the_cost_figure_shows_random_routing_at_its_own_cost(tmp_path: Path, figures: list[Any]) -> None:
    uneven = replace(predictions(), lengths=torch.tensor([4, 5, 6, 70, 80]))
    found = evaluate({"validation": uneven}, GLUE["sst2"], COST, seed=1)
    draw_cost(found, WIDTHS, tmp_path / "cost.png")
    (bar,) = (c for c in figures[0].axes[0].containers if c.has_yerr)
    (segment,) = bar.lines[2][0].get_segments()
    assert [x for x, _ in segment] == pytest.approx([found.random_point.macs_fraction] * 2)
    assert abs(found.random_point.macs_fraction - found.routed.macs_fraction) > 0.1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_values_do_not_collapse_the_axis(tmp_path: Path, figures: list[Any], value: float) -> None:
    found = report()
    flat = replace(
        found,
        routed=replace(found.routed, value=value),
        rungs=[replace(rung, value=value) for rung in found.rungs],
        random=found.random | {"value": value, "std": 0.0},
        oracle=None,
    )
    draw_cost(flat, WIDTHS, tmp_path / "cost.png")
    low, high = figures[0].axes[0].get_ylim()
    assert 0.02 < high - low < 0.03
    assert low < value < high < 1.01


def heights(axes: Any) -> list[list[float]]:
    return [[patch.get_height() for patch in container] for container in axes.containers]


def test_bucket_sizes_are_stacked(inputs: FigureInputs, tmp_path: Path, figures: list[Any]) -> None:
    assert inputs.plan_csv is not None
    draw_buckets(inputs.plan_csv, tmp_path / "buckets.png")
    (axes,) = figures[0].axes
    assert heights(axes) == [[0, 12], [20, 8]]
    assert axes.containers[1][1].get_y() == 12
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1"]


def test_scores_stand_in_the_panel_of_their_epoch_and_on_their_rung(inputs: FigureInputs, figures: list[Any]) -> None:
    inputs.folder.mkdir()
    draw_scores(inputs, inputs.folder / "scores.png")
    first, second = figures[0].axes
    counts = [
        [stairs.get_data().values for stairs in axes.patches if hasattr(stairs, "get_data")] for axes in (first, second)
    ]
    assert [[int(values.sum()) for values in panel] for panel in counts] == [[0, 2], [1, 1]]
    assert counts[1][0].argmax() == int(0.86 * plots.BINS)
    assert (first.get_title(), second.get_title()) == ("epoch 0", "epoch 1")
    strips = [(bar.get_x(), bar.get_x() + bar.get_width()) for container in second.containers for bar in container]
    assert strips == [(0.8, 1.0), (0.0, 0.8)]
    assert {float(line.get_xdata()[0]) for line in second.lines} == {0.8}


@pytest.mark.parametrize(("epochs", "shown"), [(1, [0]), (20, [0, 2, 3, 5, 7, 9, 10, 12, 14, 16, 17, 19])])
def test_at_most_twelve_epochs_are_shown(
    inputs: FigureInputs, figures: list[Any], epochs: int, shown: list[int]
) -> None:
    """Entropies, so that a bound may be infinite; eight rungs."""
    rng = np.random.default_rng(0)
    size = 40 * epochs
    columns = {
        "epoch": np.repeat(np.arange(epochs, dtype=np.int32), 40),
        "uid": np.tile(np.arange(40), epochs),
        "score": rng.exponential(0.5, size).astype(np.float32),
        "rung": rng.integers(0, 8, size).astype(np.int8),
    }
    assert inputs.history is not None
    pq.write_table(pa.table(columns), inputs.history)
    bounds = [[i / 8, (i + 1) / 8] for i in range(7)] + [[7 / 8, float("inf")]]
    inputs.folder.mkdir()
    eight = replace(inputs, widths=[f"{i / 8:g}" for i in range(1, 9)], bounds=bounds, score="entropy")
    draw_scores(eight, inputs.folder / "scores.png")
    panels = [axes for axes in figures[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [f"epoch {epoch}" for epoch in shown]
    assert panels[0].get_xlim()[1] == pytest.approx(columns["score"].max())
    assert not is_clipped(inputs.folder / "scores.png")
    legend = figures[0].legends[0].get_window_extent()
    assert all(legend.y0 >= axes.title.get_window_extent().y1 - 1 for axes in panels)


def test_spread_keeps_the_ends() -> None:
    assert spread([*range(5)], 12) == [0, 1, 2, 3, 4]
    assert spread([*range(100)], 3) == [0, 50, 99]


def test_calibration_shows_the_bins_over_all_samples(tmp_path: Path, figures: list[Any]) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=200)).float()
    good = torch.from_numpy(rng.random(200)) < torch.sigmoid(logits)
    answers = torch.stack([good.long(), torch.ones(200, dtype=torch.long)], 1)
    found = Predictions(
        uids=torch.arange(200),
        logits=torch.eye(2)[answers],
        router_logits=torch.stack([logits, -logits], 1),
        rungs=(logits < 0).long(),
        labels=torch.ones(200, dtype=torch.long),
        lengths=torch.full((200,), 5),
        difficulty=torch.full((200,), -1),
    )
    draw_calibration(found, Names(WIDTHS, ["no", "yes"]), tmp_path / "calibration.png")
    axes, strip = figures[0].axes
    (observed,) = (container for container in axes.containers if container.has_yerr)
    mean, share = observed.lines[0].get_data()
    assert len(mean) == 10
    assert np.abs(np.asarray(mean) - share).mean() < 0.15  # the planted router is calibrated
    assert sum(patch.get_height() for patch in strip.patches) == 200
    assert "0.25" in axes.get_title()


def test_the_extremes_are_those_of_the_router_and_texts_fit(tmp_path: Path, figures: list[Any]) -> None:
    found = replace(predictions(), router_logits=torch.tensor([[0.0, 0], [3, 0], [-3, 0], [1, 0], [-1, 0]]))
    draw_extremes(found, TEXTS, Names(WIDTHS, ["$no$", "$yes$" * 30]), tmp_path / "extremes.png")
    with (tmp_path / "extremes.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["uid"] for row in rows] == ["1", "3", "0", "4", "2"]
    assert [(row["text"],) for row in rows] == [TEXTS[i] for i in (1, 3, 0, 4, 2)]
    upper, lower = figures[0].axes
    assert [len(axes.patches) for axes in (upper, lower)] == [3, 2]
    assert upper.patches[0].get_width() == pytest.approx(1 / (1 + np.exp(-3)))
    for axes in (upper, lower):
        edge = axes.get_window_extent()
        for text in axes.texts:
            extent = text.get_window_extent()
            assert extent.x1 <= edge.x0 or extent.x0 >= edge.x0 - 1
    assert any("$5" in text.get_text() for text in upper.texts)
    assert not any(text.get_parse_math() for text in (*upper.texts, *lower.texts))


def test_rungs_differ_in_print_and_for_the_colour_blind() -> None:
    for looks in (RUNGS, HATCHES, DASHES):
        assert len(set(looks)) == len(looks) == 8
