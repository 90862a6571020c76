"""Checkpoints that survive: whole or not there, the one before as a fallback, exact whenever they were taken."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sharcs_pl.config import RunConfig
from sharcs_pl.config.errors import explain
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.files import previous
from sharcs_pl.runs.inputs import last_whole
from sharcs_pl.training import checkpoints
from sharcs_pl.training.checkpoints import BestCheckpoint, DurableCheckpointIO, LastCheckpoint, save_together
from tests.conftest import TINY, train_run
from tests.training.survival import Cut, assert_same_end, at, checkpoint, cut, run, run_with

MODULE = L.LightningModule()

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "garbage": lambda content: b"\x90" * len(content),
    "flipped": lambda content: content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1])
    + content[len(content) // 2 + 1 :],
}  # fmt: skip


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """What a full disk is like: no file can grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def saved(folder: Path, *values: int, name: str = "last.ckpt") -> DurableCheckpointIO:
    io = DurableCheckpointIO()
    for value in values:
        io.save_checkpoint({"value": value, "tensor": torch.ones(50_000)}, folder / name)
    return io


def values(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path, weights_only=True)["value"] for path in folder.iterdir()}


def test_the_last_one_before_is_kept_and_the_best_one_before_is_not(tmp_path: Path) -> None:
    saved(tmp_path / "new", 1, 2, 3)
    saved(tmp_path / "new", 4, 5, name="best.ckpt")
    assert values(tmp_path / "new") == {"last.ckpt": 3, "last.prev.ckpt": 2, "best.ckpt": 5}


def test_a_part_that_a_killed_run_left_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in ("best.ckpt.part", "mine.part"):
        (tmp_path / name).write_text("x")
    saved(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "mine.part"]


def test_it_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)
    names: dict[int, str] = {}
    events: list[str] = []
    fsync, replace = checkpoints.os.fsync, checkpoints.os.replace

    def log_fsync(handle: int) -> None:
        names[handle] = Path(f"/proc/self/fd/{handle}").resolve().name
        events.append(f"fsync {names[handle]}")
        fsync(handle)

    def log_replace(one: Path, other: Path) -> None:
        events.append(f"{Path(one).name} -> {Path(other).name}")
        replace(one, other)

    monkeypatch.setattr(checkpoints.os, "fsync", log_fsync)
    monkeypatch.setattr(checkpoints.os, "replace", log_replace)
    saved(tmp_path, 2)
    assert events == [
        "fsync last.ckpt.part",
        "last.ckpt -> last.prev.ckpt",
        "last.ckpt.part -> last.ckpt",
        f"fsync {tmp_path.name}",
    ]


def test_a_full_disk_leaves_the_good_ones_and_is_told_in_a_line(tmp_path: Path) -> None:
    io = saved(tmp_path, 1, 2)
    with files_up_to(100_000), pytest.raises(OSError) as caught:
        io.save_checkpoint({"value": 3, "tensor": torch.ones(50_000)}, tmp_path / "last.ckpt")
    assert values(tmp_path) == {"last.ckpt": 2, "last.prev.ckpt": 1}
    told = explain(caught.value, RunConfig)
    assert told.startswith(f"{tmp_path}/last.ckpt: the checkpoint cannot be saved: File too large; ")
    assert told.endswith("the last good one is kept, and ckpt_path=last goes on from it")


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("of another kind")

    monkeypatch.setattr(checkpoints.torch, "save", broken)
    with pytest.raises(RuntimeError, match=r"^of another kind$"):
        saved(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", DAMAGES)
def test_of_a_damaged_one_the_one_before_is_taken_with_a_warning(tmp_path: Path, how: str) -> None:
    last = tmp_path / "last.ckpt"
    assert last_whole(last) is None
    saved(tmp_path, 1, 2)
    assert last_whole(last) == last
    damage(last, how)
    with pytest.warns(DataWarning, match=r"last\.ckpt is damaged: going on from the one before it, last\.prev\.ckpt"):
        assert last_whole(last) == previous(last)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        DurableCheckpointIO().load_checkpoint(last)
    damage(previous(last), how)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged.*so is the one before it: begin again with overwrite"):
        last_whole(last)


def test_between_the_two_renames_the_one_before_is_there(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    (tmp_path / "last.ckpt").unlink()
    with pytest.warns(DataWarning, match="was lost"):
        assert last_whole(tmp_path / "last.ckpt") == tmp_path / "last.prev.ckpt"


def test_a_damaged_one_does_not_replace_the_one_that_was_gone_on_from(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    damage(tmp_path / "last.ckpt", "empty")
    io = DurableCheckpointIO()
    assert io.load_checkpoint(tmp_path / "last.prev.ckpt")["value"] == 1
    for value, kept in ((3, 1), (4, 3)):
        io.save_checkpoint({"value": value}, tmp_path / "last.ckpt")
        assert values(tmp_path) == {"last.ckpt": value, "last.prev.ckpt": kept}


class Strategy:
    """One of two processes, told what the other one says."""

    def __init__(self, other: bool) -> None:
        self.other = other
        self.barriers = 0

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        return decision and self.other if all else decision or self.other

    def broadcast(self, value: Any) -> Any:
        return value

    def barrier(self, name: str) -> None:
        self.barriers += 1


def test_a_process_that_cannot_write_stops_the_others_too(tmp_path: Path) -> None:
    def full(path: Path, weights_only: bool) -> None:
        raise OSError(28, "No space left on device")

    first: Any = SimpleNamespace(save_checkpoint=full, strategy=Strategy(other=False))
    with pytest.raises(OSError, match="No space"):
        save_together(first, tmp_path)
    assert first.strategy.barriers == 1  # the one in which the others wait
    second: Any = SimpleNamespace(save_checkpoint=lambda path, weights_only: None, strategy=Strategy(other=True))
    with pytest.raises(SystemExit) as left:
        save_together(second, tmp_path)
    assert left.value.code == 2


def moments(callback: LastCheckpoint, batches: int, epochs: int, accumulate: int = 1) -> list[tuple[int, str]]:
    """When it saves: (global step, hook)."""
    found: list[tuple[int, str]] = []
    trainer: Any = SimpleNamespace(accumulate_grad_batches=accumulate, strategy=Strategy(other=False), global_step=0)
    trainer.save_checkpoint = lambda path, weights_only: found.append((trainer.global_step, hook))
    callback.on_train_start(trainer, MODULE)
    for trainer.current_epoch in range(epochs):
        hook = "step"
        for batch_idx in range(batches):
            trainer.is_last_batch = batch_idx == batches - 1
            trainer.global_step += trainer.is_last_batch or (batch_idx + 1) % accumulate == 0
            callback.on_train_batch_end(trainer, MODULE, None, None, batch_idx)
        hook = "epoch"
        callback.on_train_epoch_end(trainer, MODULE)
    return found


def test_what_falls_due_at_an_epochs_last_step_waits_for_its_end(tmp_path: Path) -> None:
    assert moments(LastCheckpoint(tmp_path), 3, 2) == [(3, "epoch"), (6, "epoch")]
    assert moments(LastCheckpoint(tmp_path, every_n_epochs=2), 3, 3) == [(6, "epoch")]
    every_third = LastCheckpoint(tmp_path, every_n_epochs=9, every_n_steps=3)
    assert moments(every_third, 5, 3) == [(3, "step"), (6, "step"), (9, "step"), (12, "step"), (15, "epoch")]


def test_nothing_is_saved_between_accumulated_batches(tmp_path: Path) -> None:
    every = LastCheckpoint(tmp_path, every_n_epochs=9, every_n_steps=1)
    assert moments(every, 5, 1, accumulate=2) == [(1, "step"), (2, "step"), (3, "epoch")]
    every_second = LastCheckpoint(tmp_path, every_n_epochs=9, every_n_steps=2)
    assert moments(every_second, 7, 1, accumulate=2) == [(2, "step"), (4, "epoch")]


def test_minutes_are_counted_from_the_last_one_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 30))  # half a minute passes whenever the clock is read
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(now))
    found = moments(LastCheckpoint(tmp_path, every_n_epochs=9, every_n_minutes=1.5), 8, 1)
    assert [hook for _, hook in found] == ["step", "step"]
    assert found[1][0] - found[0][0] == 3


def best_of(tmp_path: Path, rows: list[tuple[int, float, float]], **settings: Any) -> list[int]:
    """The epochs that became the best, of (epoch, routed metric, fraction of MACs)."""
    callback = BestCheckpoint(tmp_path, **settings)
    found: list[int] = []
    trainer: Any = SimpleNamespace(strategy=Strategy(other=True), is_last_batch=True, should_stop=False)
    trainer.save_checkpoint = lambda path, weights_only: found.append(trainer.current_epoch)
    trainer.strategy.reduce_boolean_decision = lambda decision, all=True: decision
    for trainer.current_epoch, routed, macs in rows:
        trainer.callback_metrics = {"val/routed": torch.tensor(routed), "val/macs_fraction": torch.tensor(macs)}
        callback.on_train_epoch_end(trainer, MODULE)
    return found


def test_best_waits_for_the_first_routed_epoch_within_the_budget(tmp_path: Path) -> None:
    rows = [(0, 0.9, 1.0), (1, 0.5, 0.8), (2, 0.7, 0.6), (3, 0.7, 0.6), (4, 0.8, 0.71), (5, 0.6, 0.5)]
    assert best_of(tmp_path, rows, first_epoch=1) == [1, 2, 4]
    assert best_of(tmp_path, rows, first_epoch=1, max_macs_fraction=0.7) == [2]


def test_a_metric_that_is_no_number_is_beaten_by_any(tmp_path: Path) -> None:
    assert best_of(tmp_path, [(0, float("nan"), 1.0), (1, float("nan"), 1.0), (2, -1.0, 1.0)], first_epoch=0) == [0, 2]


@pytest.mark.parametrize(("there", "score"), [(True, 0.5), (False, None)])
def test_a_best_one_that_is_not_there_does_not_count(tmp_path: Path, there: bool, score: float | None) -> None:
    callback = BestCheckpoint(tmp_path, 0)
    callback.load_state_dict({"score": 0.5})
    if there:
        (tmp_path / "best.ckpt").touch()
    trainer: Any = SimpleNamespace(strategy=Strategy(other=False), should_stop=False)
    callback.on_train_start(trainer, MODULE)
    assert callback.score == score


@pytest.mark.parametrize(
    ("hook", "epoch", "steps"),
    [
        ("on_train_batch_end", 0, 2),  # the epoch's last step is trained, and not yet saved
        ("on_validation_start", 1, None),
        ("on_train_epoch_end", 1, None),  # the epoch is over, its history still open
        ("on_train_epoch_start", 2, None),
    ],
)
def test_a_run_cut_around_an_epochs_end_ends_alike(
    tmp_path: Path, whole: Path, hook: str, epoch: int, steps: int | None
) -> None:
    with pytest.raises(Cut):
        run_with(tmp_path, at(hook, epoch, cut))
    run(tmp_path, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


def test_the_last_one_knows_the_best_of_its_epoch(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        run_with(tmp_path, at("on_train_epoch_start", 2, cut))
    score = checkpoint(tmp_path)["callbacks"]["BestCheckpoint"]["score"]
    assert str(score) in (tmp_path / "metrics.csv").read_text().splitlines()[2].split(",")
    assert checkpoint(tmp_path, "best")["epoch"] == 1


@pytest.fixture(scope="module")
def cut_at_five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        with pytest.raises(Cut):
            run_with(folder / "run", at("on_train_batch_start", 1, cut, step=5))
    return folder / "run"


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) for how in DAMAGES if how != "truncated"] + ["truncated"]
)
def test_a_run_whose_last_one_is_damaged_ends_alike(tmp_path: Path, whole: Path, cut_at_five: Path, how: str) -> None:
    shutil.copytree(cut_at_five, tmp_path / "run")
    damage(tmp_path / "run/checkpoints/last.ckpt", how)
    with pytest.warns(DataWarning, match="going on from the one before it"):
        run(tmp_path / "run", "ckpt_path=last")
    assert_same_end(whole, tmp_path / "run")


def test_a_run_that_finds_the_disk_full_stops_and_ends_alike(tmp_path: Path, whole: Path) -> None:
    with ExitStack() as stack:
        limit = at("on_train_batch_start", 1, lambda: stack.enter_context(files_up_to(20_000)), step=4)
        with pytest.raises(OSError, match="cannot be saved"):
            run_with(tmp_path, limit)
    assert checkpoint(tmp_path)["global_step"] == 4
    assert not list(tmp_path.rglob("*.part"))
    run(tmp_path, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


def test_a_damaged_best_one_is_named_at_the_end(tmp_path: Path) -> None:
    class Damage(Callback):
        def on_fit_end(self, *args: Any) -> None:
            damage(tmp_path / "checkpoints/best.ckpt", "truncated")

    with pytest.raises(ValueError, match=r"best\.ckpt is damaged.*remove it and add ckpt_path=last"):
        run_with(tmp_path, Damage())
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_alike(tmp_path: Path) -> None:
    """20 times SIGKILL at random moments, those in the middle of saving included."""
    line = [sys.executable, "-m", "tests.training.kills", str(tmp_path), "1", "20"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=900)
    assert done.returncode == 0, done.stderr
    starts = done.stdout.splitlines()
    assert sum("status=-9" in start for start in starts) == 20
    assert all("damaged=[]" in start and ("status=-9" in start or "status=0" in start) for start in starts), starts
    for folder in {start.split()[0] for start in starts}:
        assert_same_end(tmp_path / "whole", tmp_path / folder)


def test_the_best_epoch_by_area_and_a_training_that_waits_no_longer(tmp_path: Path) -> None:
    rows = {}
    for name, words in {"routed": (), "area": ("checkpoint.best_by=area",)}.items():
        train_run(tmp_path / name, *TINY, *words, "trainer.max_epochs=6")
        with (tmp_path / name / "metrics.csv").open() as file:
            rows[name] = list(csv.DictReader(file))
    assert "val/area" not in rows["routed"][0]
    assert [row["val/routed"] for row in rows["area"]] == [row["val/routed"] for row in rows["routed"]]
    areas = [float(row["val/area"]) for row in rows["area"]][1:]  # from the first routed epoch on
    best = torch.load(tmp_path / "area/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 1 + areas.index(max(areas))
    words = ("checkpoint.best_by=area", "checkpoint.patience=1", "optim.lr=0")  # no epoch is better than the first
    train_run(tmp_path / "short", *TINY, *words, "trainer.max_epochs=6")
    with (tmp_path / "short/metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert json.loads((tmp_path / "short/metrics.json").read_text())["epochs"] == 3


def test_a_run_that_waited_long_enough_stays_ended_when_it_is_resumed(tmp_path: Path) -> None:
    words = (*TINY, "checkpoint.best_by=area", "checkpoint.patience=1", "optim.lr=0", "trainer.max_epochs=6")
    first = train_run(tmp_path / "run", *words)
    (tmp_path / "run/metrics.json").unlink()
    before = (tmp_path / "run/metrics.csv").read_text()
    assert train_run(tmp_path / "run", *words, "ckpt_path=last") == first
    assert (tmp_path / "run/metrics.csv").read_text() == before


def test_scores_of_another_kind_do_not_compete(tmp_path: Path) -> None:
    state = BestCheckpoint(tmp_path, 0, monitor="val/routed").state_dict() | {"score": 0.9, "waited": 2}
    same, other = (BestCheckpoint(tmp_path, 0, monitor=name) for name in ("val/routed", "val/area"))
    same.load_state_dict(state)
    other.load_state_dict(state)
    assert (same.score, same.waited) == (0.9, 2)
    assert (other.score, other.waited) == (None, 0)
    other.load_state_dict({"score": 0.9})  # as earlier versions wrote it
    assert other.score is None
