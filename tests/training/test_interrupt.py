"""Signals: a checkpoint at a step's end, the command to go on or a requeued job, and the same result."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, Timer

from sharcs_pl.core.errors import Interrupted
from sharcs_pl.launch.slurm import SlurmJob
from sharcs_pl.pipeline.build import build_plugins
from sharcs_pl.training import interrupt
from sharcs_pl.training.checkpoints import DurableCheckpointIO
from sharcs_pl.training.interrupt import GracefulStop, may_stop, requeue
from tests.commands import run_line
from tests.conftest import TINY
from tests.training.survival import assert_same_end, at, checkpoint, run, run_with

COMMAND = [sys.executable, "-m", "sharcs_pl.train", *TINY, "task.train_size=400", "trainer.max_epochs=5"]


def start(directory: Path, *overrides: str) -> subprocess.Popen[str]:
    words = [*COMMAND, f"hydra.run.dir={directory}", *overrides]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory.parent)


def wait_for(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_ctrl_c_saves_and_the_printed_command_goes_on_exactly(tmp_path: Path) -> None:
    process = start(tmp_path / "cut")
    wait_for((tmp_path / "cut/metrics.csv").exists, process)  # the first epoch is over, four remain
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "SIGINT: stopping at the end of this step; Ctrl-C again to stop at once" in err
    command = err.strip().splitlines()[-1]
    assert command.startswith("python -m sharcs_pl.train ")
    assert command.endswith("ckpt_path=last")
    assert not (tmp_path / "cut/metrics.json").exists()
    epochs_before = len((tmp_path / "cut/metrics.csv").read_text().splitlines()) - 1
    assert epochs_before < 5
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = run_line([*COMMAND[2:], f"hydra.run.dir={tmp_path}/whole"], cwd=tmp_path, kind="loaded")
    assert (whole.returncode, whole.stderr) == (0, "")
    cut, uncut = last_weights(tmp_path / "cut"), last_weights(tmp_path / "whole")
    assert all(torch.equal(cut[name], uncut[name]) for name in uncut)
    for name in ("metrics.csv", "plan.csv", "predictions.tsv", "metrics.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def send(number: signal.Signals) -> None:
    """To this process; Lightning's own handler, which has processes wait for each other, must not be in the way."""
    assert getattr(signal.getsignal(number), "__name__", "") == "_on_signal"
    os.kill(os.getpid(), number)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is a task of job array 5; what scontrol is asked for stands in the returned file."""
    asked, tool = tmp_path / "asked", tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    for name, value in (
        ("JOB_ID", "6"),
        ("PROCID", "0"),
        ("ARRAY_JOB_ID", "5"),
        ("ARRAY_TASK_ID", "3"),
        ("JOB_NAME", "train"),
    ):
        monkeypatch.setenv(f"SLURM_{name}", value)
    return asked


@pytest.fixture(autouse=True)
def _hangups_are_heard() -> Iterator[None]:
    """As in a terminal, wherever the tests run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path, whole: Path) -> None:
    def hang_up() -> None:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    run_with(tmp_path, at("on_train_batch_start", 1, hang_up, step=4))
    assert_same_end(whole, tmp_path)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.slow
def test_a_terminal_that_is_gone_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    """The bar is on: what it writes fails from the moment on in which the terminal is closed."""
    pid, terminal = pty.fork()
    words = [*COMMAND, "trainer.enable_progress_bar=true", "trainer.max_epochs=500", f"hydra.run.dir={tmp_path}/run"]
    if pid == 0:
        os.execv(words[0], words)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/metrics.csv").exists():
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 1 << 16)
        assert time.monotonic() < deadline
    (tmp_path / "run/checkpoints/last.ckpt").unlink(missing_ok=True)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert checkpoint(tmp_path / "run")["global_step"] > 0
    assert not (tmp_path / "run/.hydra/run.lock").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_in_a_step_saves_at_its_end_and_the_run_goes_on_exactly(
    tmp_path: Path, whole: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as left:
        run_with(tmp_path, at("on_train_batch_start", 1, lambda: send(number), step=4), "checkpoint.every_n_steps=null")
    assert left.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert checkpoint(tmp_path)["global_step"] == 5
    assert f"stopped by {number.name}" in capfd.readouterr().err
    run(tmp_path, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


class StopsAt(Callback):
    """Asks Lightning to stop in a step of epoch 1, as early stopping within an epoch does."""

    def __init__(self, step: int = 5) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1 and trainer.fit_loop.epoch_loop.total_batch_idx == self.step - 1:
            trainer.should_stop = True


@pytest.mark.parametrize("limit", ["max_steps", "max_time", "callback"])
def test_a_limit_in_mid_epoch_leaves_the_epoch_open_and_the_run_goes_on_exactly(
    tmp_path: Path, whole: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """An epoch closed half done sends what it has not seen to the top rung, and makes other buckets of the rest."""
    options = {"max_steps": ["trainer.max_steps=5"], "max_time": ["trainer.max_time=00:01:00:00"]}.get(limit, [])
    late: list[bool] = []
    monkeypatch.setattr(Timer, "time_elapsed", lambda *args: 3600.0 * len(late))
    callback = StopsAt() if limit == "callback" else at("on_train_batch_start", 1, lambda: late.append(True), step=4)
    metrics = run_with(tmp_path, callback, "checkpoint.every_n_steps=null", *options)
    assert (metrics["epochs"], metrics["steps"]) == (1, 5)
    assert checkpoint(tmp_path)["global_step"] == 5
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2
    assert set(pq.read_table(tmp_path / "history.parquet")["epoch"].to_pylist()) == {0}
    assert "ended training in the middle of epoch 1" in capfd.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("SHARCS_CACHE", str(tmp_path / "cache"))
    run(tmp_path, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


def test_a_stop_among_accumulated_steps_waits_for_their_update(tmp_path: Path) -> None:
    options = ("trainer.accumulate_grad_batches=2", "checkpoint.every_n_steps=null")
    run(tmp_path / "whole", *options)
    run_with(tmp_path / "cut", StopsAt(5), *options)  # the second of epoch 1, whose first update ends at its second
    assert checkpoint(tmp_path / "cut")["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] == 1
    run(tmp_path / "cut", *options, "ckpt_path=last")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("least", ["min_epochs", "min_steps"])
def test_a_stop_before_the_least_that_was_asked_for_is_no_stop(least: str) -> None:
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "max_epochs": 3, least: 2}
    trainer = L.Trainer(accelerator="cpu", **options)
    assert not may_stop(trainer)
    trainer.fit_loop.epoch_progress.current.completed = 2
    trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 2
    assert may_stop(trainer)


def test_a_slurm_job_is_requeued_and_goes_on_unasked(
    tmp_path: Path, whole: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted) as left:  # in validation: it waits for the epoch's end
        run_with(tmp_path / "run", at("on_validation_start", 1, lambda: send(signal.SIGUSR1)))
    assert left.value.code == 138
    assert job.read_text() == "requeue 5_3\n"
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run(tmp_path / "run")
    assert_same_end(whole, tmp_path / "run")


def test_sigterm_does_not_requeue_since_scancel_sends_it_too(tmp_path: Path, job: Path) -> None:
    with pytest.raises(Interrupted) as left:
        run_with(tmp_path / "run", at("on_train_batch_start", 0, lambda: send(signal.SIGTERM), step=1))
    assert left.value.code == 143
    assert checkpoint(tmp_path / "run")["global_step"] == 2
    assert not job.exists()


@pytest.mark.parametrize(
    ("hook", "epoch", "step", "saved"), [("on_train_batch_start", 0, 1, 2), ("on_train_end", 3, None, None)]
)
def test_the_handler_that_was_there_requeues_instead(
    tmp_path: Path, job: Path, whole: Path, hook: str, epoch: int, step: int | None, saved: int | None
) -> None:
    """`saved`: the step of the checkpoint; None for a run's last."""
    steps = []

    def submitit(number: int, frame: object) -> None:
        steps.append(checkpoint(tmp_path / "run")["global_step"])
        os.kill(os.getpid(), signal.SIGTERM)  # what SLURM sends to a job that is requeued
        sys.exit(-1)

    before = signal.signal(signal.SIGUSR2, submitit)
    try:
        with pytest.raises(Interrupted) as left:
            run_with(tmp_path / "run", at(hook, epoch, lambda: send(signal.SIGUSR2), step))
        assert signal.getsignal(signal.SIGUSR2) is submitit
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert steps == [saved or checkpoint(whole)["global_step"]]
    assert left.value.code == -1
    assert not job.exists()


def test_before_the_first_step_there_is_nothing_to_save(tmp_path: Path, job: Path) -> None:
    with pytest.raises(Interrupted) as left:
        run_with(tmp_path / "run", at("on_fit_start", 0, lambda: send(signal.SIGUSR1)))
    assert left.value.code == 138
    assert job.read_text() == "requeue 5_3\n"
    assert not (tmp_path / "run/checkpoints").exists()


class InFinalEvaluation(Callback):
    """Sends SIGTERM once training is over."""

    def on_validation_batch_start(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.state.fn == "validate":
            send(signal.SIGTERM)


def test_in_the_final_evaluation_the_next_start_evaluates_again(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(Interrupted) as left:
        run_with(tmp_path, InFinalEvaluation())
    assert left.value.code == 143
    assert not (tmp_path / "metrics.json").exists()
    run(tmp_path, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


def test_one_after_the_last_checkpoint_stops_before_the_evaluation(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as left:
        run_with(tmp_path, at("on_train_end", 3, lambda: send(signal.SIGTERM)))
    assert left.value.code == 143
    assert not (tmp_path / "metrics.json").exists()


def test_outside_training_it_stops_at_once(tmp_path: Path) -> None:
    for number in interrupt.SIGNALS:
        before = signal.getsignal(number)
        with pytest.raises(Interrupted) as stopped, GracefulStop(tmp_path / "last.ckpt"):
            os.kill(os.getpid(), number)
        assert (stopped.value.signal, stopped.value.code) == (number, 128 + number)
        assert signal.getsignal(number) == before


def test_the_second_ctrl_c_does_not_wait(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with GracefulStop(tmp_path / "last.ckpt") as stop:
        stop.training = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        assert "Ctrl-C again" in capfd.readouterr().err
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_slurm_sends_twice_waits_and_a_requeue_outweighs_the_rest(tmp_path: Path) -> None:
    with GracefulStop(tmp_path / "last.ckpt") as stop:
        stop.training = True
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert interrupt.SIGNALS[stop.asked - 1] == signal.SIGUSR1
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_job_that_cannot_be_requeued_says_why(
    tmp_path: Path, job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requeue(SlurmJob("7"))
    (tmp_path / "bin/scontrol").write_text("#!/bin/sh\necho 'Requested operation is disabled' >&2\nexit 1\n")
    assert not requeue(SlurmJob("7"))
    assert capsys.readouterr().err == "warning: job 7 is not requeued: Requested operation is disabled\n"
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert not requeue(SlurmJob("7"))
    assert "scontrol" in capsys.readouterr().err


def test_lightning_requeues_nothing(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [type(plugin) for plugin in build_plugins()] == [DurableCheckpointIO]  # a script that srun did not start
    monkeypatch.setenv("SLURM_NTASKS", "1")
    _, slurm = build_plugins()
    assert isinstance(slurm, SLURMEnvironment)
    assert not slurm.auto_requeue
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert len(build_plugins()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_processes_that_differ_leave_at_the_same_step(tmp_path: Path, number: signal.Signals) -> None:
    line = [sys.executable, "-m", "tests.training.unequal", str(tmp_path), number.name]
    done = subprocess.run(line, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=600)
    assert done.returncode == 128 + number, done.stderr
    assert [(tmp_path / f"rank{i}").read_text() for i in range(2)] == [f"6 {128 + number}"] * 2
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 6
