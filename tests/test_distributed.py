"""The same training on any number of processes."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sharcs_pl.runs.directory import run_config
from tests.conftest import TINY, compose_config, train_run
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
    devices = () if world == 1 else (f"trainer.devices={world}",)
    return train_run(directory, *TINY, *devices, *overrides)


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
    assert (tmp_path / "run" / "plan.csv").read_text() == (alone[rungs] / "plan.csv").read_text()
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


# One width on every sample, several, exits whose stages and steps train different parts.
METHODS = ("fixed method.width=0.5", "slimmable", "deebert", "berxit", "pabee")


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_train_the_same_weights_on_two_processes(method: str, tmp_path: Path) -> None:
    options = (*EXACT, *f"method={method}".split(), "trainer.max_epochs=4")
    metrics = run_on(1, tmp_path / "alone", *options)
    assert run_on(2, tmp_path / "both", *options) == metrics
    assert_close(tmp_path / "both", tmp_path / "alone", 1e-10)


@pytest.mark.parametrize(
    "stages",
    [
        ("distill=top", "width.reorder_after=1"),
        ("distill=frozen", "hardness.warmup_epochs=2", "width.reorder_after=2", "hardness.rewind=true",
         "optim.restart=true", "trainer.max_epochs=4"),
    ],
    ids=["one", "two"],
)  # fmt: skip
def test_every_width_on_every_batch_after_a_reordering_trains_the_same_weights_on_two_processes(
    stages: tuple[str, ...], tmp_path: Path
) -> None:
    """Three widths and two processes, which share each batch, and calibration texts of which one process has none."""
    joint = ("hardness.trains=all", "method.cut=heads_ffn", *stages)
    joint += ("task.calibration=0.1", "router.budget=0.9", "checkpoint.best_by=area", "checkpoint.patience=5")
    options = (*EXACT, *LADDERS[3], *joint, "width.bounds=[[0.5,1],[0.4,1],[0,1]]")
    metrics = run_on(1, tmp_path / "alone", *options)
    assert run_on(2, tmp_path / "both", *options) == metrics
    assert_close(tmp_path / "both", tmp_path / "alone", 1e-10)
    points = [json.loads((tmp_path / name / "model/config.json").read_text()) for name in ("alone", "both")]
    assert points[0]["operating_points"].keys() == {"router", "cascade", "router+cascade"}
    assert points[0]["operating_point"] == points[1]["operating_point"]
    order = [(tmp_path / name / "importance.parquet").read_bytes() for name in ("alone", "both")]
    assert order[0] == order[1]


@pytest.mark.parametrize("option", ["method=skim", "method.skim_weight=0.2"])
def test_skimming_trains_on_two_processes(option: str, tmp_path: Path) -> None:
    """Its noise is drawn for a process's share of the batch, so the weights are those of this number of processes."""
    options = (*EXACT, option)
    first, second = (run_on(2, tmp_path / name, *options) for name in ("one", "other"))
    assert first == second
    assert_close(tmp_path / "one", tmp_path / "other", 1e-15)


def test_float32_agrees_to_its_precision_with_accumulated_gradients(tmp_path: Path) -> None:
    options = ("encoder.dropout=0", "task.train_size=44", "trainer.accumulate_grad_batches=2", *LADDERS[2])
    run_on(1, tmp_path / "alone", *options)
    run_on(2, tmp_path / "both", *options)
    assert_close(tmp_path / "both", tmp_path / "alone", 1e-4)


class Cut(Exception):
    """What ends a run at a chosen step."""


class CutAt(Callback):
    """Ends a run before a step, on every rank or on one."""

    def __init__(self, step: int, only_rank: int | None = None) -> None:
        self.step = step
        self.only_rank = only_rank

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step and self.only_rank in (None, trainer.global_rank):
            raise Cut("cut here")


def _with_callback(callback: Callback) -> None:
    from sharcs_pl.pipeline import build

    original = build.build_callbacks
    build.build_callbacks = lambda *args: [*original(*args), callback]


def _rank_cut(rank: int, directory: str, world: int, cache: str, overrides: tuple[str, ...], step: int) -> None:
    _with_callback(CutAt(step))
    with pytest.raises(Cut):
        _rank_run(rank, directory, world, cache, overrides)


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_cut_on_two_processes_goes_on_exactly_on_two_and_as_well_on_one(tmp_path: Path, step: int) -> None:
    """Cut in the window and in a routed epoch, in mid-epoch both times: the other rank's scores must be kept."""
    options = (*EXACT, *LADDERS[2], "checkpoint.every_n_steps=1")
    run_on(2, tmp_path / "whole", *options)
    run_ranks(2, _rank_cut, str(tmp_path / "cut"), 2, str(tmp_path / "cache"), options, step)
    shutil.copytree(tmp_path / "cut", tmp_path / "elsewhere")
    run_on(2, tmp_path / "cut", *options, "ckpt_path=last")
    found, expected = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    for name in ("metrics.csv", "plan.csv", "metrics.json"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    one, other = (pq.read_table(tmp_path / side / "history.parquet") for side in ("whole", "cut"))
    assert one.equals(other)
    run_on(1, tmp_path / "elsewhere", *options, "ckpt_path=last")
    assert_close(tmp_path / "elsewhere", tmp_path / "whole", 1e-10)


def _rank_loses(rank: int, directory: str, world: int, cache: str, overrides: tuple[str, ...]) -> tuple[Any, str]:
    """How a rank leaves when rank 1 breaks in the third step, and what it says."""
    _with_callback(CutAt(2, only_rank=1))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _rank_run(rank, directory, world, cache, overrides)
    except SystemExit as left:
        return left.code, said.getvalue()
    except Cut:
        return "cut", said.getvalue()
    return None, said.getvalue()


def test_a_rank_that_breaks_ends_the_others_with_a_word(tmp_path: Path) -> None:
    answers = run_ranks(2, _rank_loses, str(tmp_path / "run"), 2, str(tmp_path / "cache"), LADDERS[2])
    assert answers[1][0] == "cut"
    assert answers[0][0] == 1
    assert answers[0][1].startswith("error: a process of the run ended early, its own error is above: ")
    assert answers[0][1].count("\n") == 1


def _rank_with_another_seed(rank: int, directory: str, world: int, cache: str, overrides: tuple[str, ...]) -> None:
    _rank_run(rank, directory, world, cache, (*overrides, f"seed={rank + 1}"))


def test_processes_of_different_configs_do_not_train_together(tmp_path: Path) -> None:
    with pytest.raises(
        AssertionError, match=r"RuntimeError: the processes differ in their config: rank 0: \w+, rank 1:"
    ):
        run_ranks(2, _rank_with_another_seed, str(tmp_path / "run"), 2, str(tmp_path / "cache"), LADDERS[2])


def test_a_run_directory_that_is_taken_ends_every_process(tmp_path: Path) -> None:
    run_on(1, tmp_path / "run", *LADDERS[2])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(AssertionError) as failed:
        run_on(2, tmp_path / "run", *LADDERS[2])
    assert "ValueError" in str(failed.value)
    assert "holds a run; add ckpt_path=last to go on with it" in str(failed.value)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_waiting_for_another_process_has_an_end() -> None:
    from datetime import timedelta

    from sharcs_pl.pipeline.build import build_trainer

    config = run_config(compose_config(*TINY, "trainer.devices=2", "trainer.timeout_minutes=3"))
    strategy: Any = build_trainer(config, Path(), []).strategy
    assert strategy._timeout == timedelta(minutes=3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.devices=3", "3 processes cannot share the 2 batches of a step evenly; what fits: 1, 2, or a mult"),
        ("trainer=fsdp", "use trainer=ddp"),
        ("trainer.num_nodes=3", "what fits: 1, 2"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_a_model_is_built(
    tmp_path: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharcs_pl.pipeline.build.build_model", None)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", override)
    assert not (tmp_path / "run").exists()
