"""Hydra's sweeper for Optuna, with one objective and with two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sharcs_pl.launch.cluster import is_installed
from tests.conftest import TINY

pytestmark = pytest.mark.skipif(
    not is_installed("hydra_plugins.hydra_optuna_sweeper"), reason="needs the extra [optuna]"
)
SWEEP = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=sweep"]


def sweep(folder: Path, *words: str) -> tuple[int, str]:
    env = dict(os.environ) | {"SHARCS_CACHE": str(folder / "cache"), "PYTHONWARNINGS": "ignore"}
    line = ["sharcs_pl.train", *SWEEP, "optim.lr=interval(0.001,0.01)", *words, *TINY]
    done = subprocess.run(
        [sys.executable, "-m", *line], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_two_objectives_are_metric_and_cost(tmp_path: Path) -> None:
    code, told = sweep(tmp_path, "objective=[metric,cost]", "hydra.sweeper.direction=[maximize,minimize]")
    assert code == 0, told
    found = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())["solutions"]
    runs = [json.loads((tmp_path / "sweep" / job / "metrics.json").read_text())["routed"] for job in ("0", "1")]
    values = [[run["value"], run["macs_fraction"]] for run in runs]
    assert found
    assert all(solution["values"] in values for solution in found)


def test_the_default_direction_is_refused_for_the_metric(tmp_path: Path) -> None:
    code, told = sweep(tmp_path)
    assert code == 2
    assert told.startswith("error: hydra.sweeper.direction=minimize does not fit objective=metric: give hydra.sweeper.")
    assert not (tmp_path / "sweep").exists()
