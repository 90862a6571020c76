from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import beta

from sharcs_pl.analysis.calibration.points import (
    Row,
    Views,
    draw_points,
    measure,
    measure_all,
    points_table,
    show_thresholds,
)
from sharcs_pl.core.decision import NEVER
from sharcs_pl.data.tasks import GLUE
from tests.analysis.test_evaluation import COST, predictions

LENGTHS = np.array([4, 5, 6, 7, 8])


def views() -> Views:
    """Narrow right on 0, 1 and 4, top right on 0, 2 and 4; the router's narrow logits are 1, 1, 1, 0, 0."""
    return Views.of(predictions(), GLUE["sst2"], COST, seed=1)


def test_a_point_by_hand() -> None:
    row = measure("mine", (0.5,), views(), confidence=0.9)
    macs = COST.rung_macs(LENGTHS)
    fraction = (macs[:3, 0].sum() + macs[3:, 1].sum()) / COST.dense_macs(LENGTHS).sum()
    assert row.report.routed.macs_fraction == pytest.approx(fraction)
    assert row.shares == pytest.approx([3 / 5, 2 / 5])
    assert row.accuracy == pytest.approx(3 / 5)  # 0 and 1 narrow, 4 at the top
    assert row.drop == pytest.approx(0)  # sample 2 is lost, sample 1 is won
    assert row.risk == pytest.approx(1 / 5)
    assert row.bound == pytest.approx(beta.ppf(0.9, 2, 4))
    assert row.report.regret == pytest.approx(1 / 5)
    assert row.milliseconds is None
    kept = row.to_json(["0.25", "1"])
    assert kept["shares"] == pytest.approx({"0.25": 3 / 5, "1": 2 / 5})
    assert "latency_ms" not in kept


def test_all_top_and_all_narrow() -> None:
    top, narrow = measure_all({"top": (NEVER,), "narrow": (-NEVER,)}, views(), 0.95)
    assert (top.risk, top.drop, top.shares) == (0, 0, [0, 1])
    assert narrow.risk == pytest.approx(1 / 5)
    assert narrow.report.routed.macs == narrow.report.rungs[0].macs


def test_some_samples_and_their_latency() -> None:
    timed = views().timed(np.arange(10.0).reshape(5, 2)).select(np.array([1, 3, 4]))
    row = measure("mine", (0.5,), timed, 0.95)
    assert row.milliseconds == pytest.approx((2 + 7 + 9) / 3)
    assert row.drop == pytest.approx(-1 / 3)  # 1 is won
    assert row.shares == pytest.approx([1 / 3, 2 / 3])
    np.testing.assert_allclose(timed.outcomes.costs.mean(0)[0], COST.rung_macs(LENGTHS[[1, 3, 4]])[:, 0].sum()
                               / COST.dense_macs(LENGTHS[[1, 3, 4]]).sum())  # fmt: skip
    assert timed.by_latency.costs.tolist() == [[2, 3], [6, 7], [8, 9]]


def test_a_regression_has_no_risk() -> None:
    found = predictions()
    values = replace(found, logits=torch.rand(5, 2, 1), labels=torch.rand(5))
    some = Views.of(values, GLUE["stsb"], COST, seed=1)
    row = measure("mine", (0.5,), some, 0.95)
    assert (row.accuracy, row.drop, row.risk, row.bound) == (None, None, None, None)
    np.testing.assert_allclose(some.outcomes.quality[:, 1], -((values.logits[:, 1, 0] - values.labels) ** 2), rtol=1e-5)
    assert "drop" not in shown([row])


def shown(rows: list[Row], confidence: float = 0.9) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(points_table(rows, ["0.25", "1"], confidence, "points"))
    return captured.get()


def test_the_table_fits_a_terminal_and_shows_every_point_the_single_widths_and_the_oracle() -> None:
    rows = measure_all({"trained": None, "a_name_of_16_chr": (0.5,)}, views().timed(np.ones((5, 2))), 0.9)
    text = shown(rows)
    bound = f"{beta.ppf(0.9, 2, 4):.4f}"
    for piece in (
        "likeliest",
        "0.6225",
        "60.0%",
        "+0.0000",
        bound,
        "oracle",
        "width 1 (full)",
        "a_name_of_16_chr",
        "1.00",
    ):
        assert piece in text, piece
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "promised nothing" not in text
    f1 = replace(views(), task=replace(GLUE["mrpc"], metrics=("f1",)))
    assert "f1 is only shown, it is promised nothing" in " ".join(shown([measure("mine", (0.5,), f1, 0.9)]).split())


def test_random_routing_is_shown_at_its_own_cost() -> None:
    uneven = Views.of(replace(predictions(), lengths=torch.tensor([4, 5, 6, 70, 80])), GLUE["sst2"], COST, seed=1)
    row = measure("mine", (0.5,), uneven, 0.9)
    control = row.report.random_point
    assert control.macs_fraction < row.report.routed.macs_fraction - 0.1
    lines = [line for line in shown([row]).splitlines() if f"{row.report.random['value']:.4f}" in line]
    assert lines
    assert all(f"{control.macs_fraction:.1%}" in line for line in lines)


def test_thresholds_are_shown_as_probabilities() -> None:
    assert show_thresholds((0.0, NEVER, -NEVER, -800.0)) == "0.5 never always 9.86e-305"


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = measure_all({"trained": None, "mine": (0.5,)}, views(), 0.9)
    path = draw_points(rows, views(), tmp_path / "points.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["points.png"]
