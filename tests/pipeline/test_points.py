"""Operating points that a training leaves: each rule's best within the budget, on texts that chose nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl import calibrate
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.command_line import read_command
from tests.conftest import TINY, train_run

POINTS = (*TINY, "task.train_size=120", "task.calibration=0.25", "router.budget=0.85", "optim.lr=3e-3", "distill=top")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("points")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        return folder / "run", train_run(folder / "run", *POINTS), ""


def config_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "model/config.json").read_text())


def test_every_rule_has_a_point_within_the_budget_and_the_best_is_in_use(
    made: tuple[Path, dict[str, Any], str],
) -> None:
    run, metrics, _ = made
    config = config_of(run)
    points = config["operating_points"]
    assert set(points) == {"router", "cascade", "router+cascade"}
    assert {point["split"] for point in points.values()} == {"calibration"}
    assert {point["samples"] for point in points.values()} == {30}
    assert all(point["macs_fraction"] <= 0.85 for point in points.values())
    assert points[config["operating_point"]]["value"] == max(point["value"] for point in points.values())
    assert metrics["routed"]["macs_fraction"] < 1
    assert metrics["rule"] == config["operating_point"]


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
