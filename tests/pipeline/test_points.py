"""Operating points that a training leaves: each rule's best within the budget, on texts that chose nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sharcs_pl import calibrate
from sharcs_pl.analysis.calibration.rules import Cascades
from sharcs_pl.analysis.calibration.views import decided
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.command_line import read_command
from sharcs_pl.evaluation.curves import Curves
from sharcs_pl.pipeline.points import best_rule, setting_for
from tests.analysis.calibration.simulated import SIZE, population
from tests.conftest import TINY, train_run

POINTS = (*TINY, "task.train_size=120", "task.calibration=0.25", "router.budget=0.85", "optim.lr=3e-3", "distill=top")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A run without the margin of its costs, so that the command finds the same points."""
    folder = tmp_path_factory.mktemp("points")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharcs_pl.pipeline.points.margin", lambda costs: 0.0)
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        return folder / "run", train_run(folder / "run", *POINTS), ""


def config_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "model/config.json").read_text())


def test_every_rule_has_a_point_within_the_budget_and_one_is_in_use(
    made: tuple[Path, dict[str, Any], str],
) -> None:
    run, metrics, _ = made
    config = config_of(run)
    found = config["operating_points"]
    assert set(found) == {"router", "cascade", "router+cascade"}
    assert {point["split"] for point in found.values()} == {"calibration"}
    assert {point["samples"] for point in found.values()} == {30}
    assert all(point["macs_fraction"] <= 0.85 for point in found.values())
    assert metrics["routed"]["macs_fraction"] < 1
    assert metrics["rule"] == config["operating_point"]


@pytest.mark.parametrize("rule", ["router", "cascade"])
def test_other_texts_keep_the_budget_too(rule: str) -> None:
    """Without a margin half of the draws would break it."""
    whole, broken = population(), 0
    for draw in range(40):
        views = whole.select(np.random.default_rng(draw).integers(SIZE, size=200))
        found = setting_for(rule, views, 0.7, Cascades())
        broken += whole.fractions(decided(whole, found)).mean() > 0.7
    assert broken <= 6


def test_a_budget_with_no_room_for_a_margin_is_the_limit_itself() -> None:
    views = population().select(np.arange(200))
    cheapest = float(views.outcomes.costs.mean(0).min())
    found = setting_for("router", views, cheapest + 1e-6, Cascades())
    assert views.fractions(decided(views, found)).mean() == pytest.approx(cheapest)


@pytest.mark.parametrize(
    ("gain", "used"),
    [(0.009, "cascade"), (0.011, "router+cascade"), (-0.011, "cascade")],
)
def test_the_cascade_is_in_use_unless_another_rule_is_better_by_more_than_chance(gain: float, used: str) -> None:
    noise = np.array([-0.01, 0.01])  # a standard error of one point
    values = {"router": 0.8 + noise * 0, "cascade": 0.8 + noise * 0, "router+cascade": 0.8 + gain + noise}
    drawn: Any = SimpleNamespace(drawn=lambda name, budget: values[name], predictions=SimpleNamespace(uids=range(9)))
    assert best_rule(drawn, list(values), 0.5) == used
    assert best_rule(drawn, ["router"], 0.5) == "router"


def test_what_compares_the_rules_is_read_on_draws_of_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def drawn(curves: Curves, name: str, budget: float) -> np.ndarray:
        asked.append((name, budget))
        return np.full(200, float(name == "router"))

    monkeypatch.setattr(Curves, "drawn", drawn)
    train_run(tmp_path / "run", *POINTS, "trainer.max_epochs=2")
    assert {name for name, budget in asked if budget == 0.85} == {"router", "cascade", "router+cascade"}
    assert config_of(tmp_path / "run")["operating_point"] == "router"


@pytest.mark.parametrize("rule", ["router", "cascade"])
def test_a_point_is_the_one_that_the_command_finds(
    made: tuple[Path, dict[str, Any], str], rule: str, tmp_path: Path
) -> None:
    import shutil

    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    given = [f"run={run}", f"rule={rule}", "budget=0.85", "name=again"]
    record = calibrate.run(read_command("calibrate", CalibrateConfig, given))
    mine = config_of(run)["operating_points"][rule]
    assert {key: value for key, value in mine.items() if key != "seed"} == {
        key: value for key, value in record.items() if key != "seed"
    }


def test_a_budget_below_every_setting_is_told_and_the_trained_rule_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(tmp_path / "run", *POINTS, "router.budget=0.1")
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: no point for rule=cascade: router.budget=0.1 is out of reach" in said
    assert not config_of(tmp_path / "run").get("operating_points")


def test_methods_of_one_width_leave_no_point(tmp_path: Path) -> None:
    train_run(tmp_path / "run", *POINTS, "method=dense", "trainer.max_epochs=1")
    assert not config_of(tmp_path / "run").get("operating_points")
