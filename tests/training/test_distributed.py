"""The same training on any number of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sharcs_pl.rundir import run_config
from sharcs_pl.train import train
from tests.conftest import TINY, compose_config
from tests.processes import run_ranks

LADDERS = {
    1: ("method=dense", "width.multipliers=[1]", "width.bounds=[[0,1]]"),
    2: ("width.multipliers=[0.25,1]", "width.bounds=[[0.5,1],[0,0.5]]"),
    3: ("width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.5,1],[0.4,0.6],[0,0.4995]]"),
    4: ("width.multipliers=[0.25,0.5,0.75,1]", "width.bounds=[[0.5,1],[0.4,0.6],[0,0.4995],[0,0.4983]]"),
}
PAIRS = [(1, 2), (1, 3), (1, 4), (2, 2), (2, 4), (3, 3), (4, 2), (4, 4)]
EXACT = ("encoder.dropout=0", "trainer.precision=64-true", "task.train_size=44", "eval_batch_size=5", "optim.lr=3e-3")


def run(directory: Path, *overrides: str, world: int = 1) -> dict[str, Any]:
    cfg = compose_config(*TINY, *overrides, f"trainer.devices={world}")
    return train(run_config(cfg), directory, cfg)


def _rank_run(rank: int, directory: str, world: int, cache: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    import os

    os.environ["SHARCS_CACHE"] = cache
    # Under torchrun every process has a directory of its own name; only the first one's may come to be.
    own = Path(directory) if rank == 0 else Path(directory) / f"of_rank_{rank}"
    return run(own, *overrides, world=world)


def run_on(world: int, directory: Path, *overrides: str) -> dict[str, Any]:
    cache = str(directory.parent / "cache")
    metrics = run_ranks(world, _rank_run, str(directory), world, cache, overrides)
    assert all(one == metrics[0] for one in metrics)
    assert not list(directory.glob("of_rank_*"))
    return metrics[0]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=1e-12))


def assert_close(directory: Path, alone: Path, tolerance: float) -> None:
    """Per tensor and over all; the true gradient of a key's bias is zero, so Adam makes noise of its rounding."""
    found, expected = weights(directory), weights(alone)
    assert found.keys() == expected.keys()
    names = [name for name in expected if expected[name].is_floating_point() and not name.endswith("key.bias")]
    far = {name: gap for name in names if (gap := relative(found[name], expected[name])) > tolerance}
    assert not far
    joined = [torch.cat([tensors[name].flatten() for name in names]) for tensors in (found, expected)]
    assert relative(*joined) < tolerance


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The run of each ladder in one process."""
    found = {}
    for rungs, ladder in LADDERS.items():
        found[rungs] = tmp_path_factory.mktemp("alone") / "run"
        run_on(1, found[rungs], *EXACT, *ladder)
    return found


@pytest.mark.parametrize(("rungs", "world"), PAIRS)
def test_every_allowed_number_of_processes_trains_the_same_weights(
    rungs: int, world: int, alone: dict[int, Path], tmp_path: Path
) -> None:
    run_on(world, tmp_path / "run", *EXACT, *LADDERS[rungs])
    for name in ("plan.csv",):
        assert (tmp_path / "run" / name).read_text() == (alone[rungs] / name).read_text()
    assert_close(tmp_path / "run", alone[rungs], 1e-10)
    if rungs > 1:
        one, other = (pq.read_table(folder / "history.parquet") for folder in (tmp_path / "run", alone[rungs]))
        assert one.drop(["score"]).equals(other.drop(["score"]))
        assert np.allclose(one["score"].to_numpy(), other["score"].to_numpy(), atol=1e-6)
        plan = (alone[rungs] / "plan.csv").read_text().splitlines()
        assert "True" in plan[-1]
        assert "0" not in plan[-1].split(",")[3:], "every bucket should hold samples"
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", alone[rungs]))
    assert first == second
