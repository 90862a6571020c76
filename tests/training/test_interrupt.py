"""Ctrl-C through the real command line: a checkpoint at a step's end, the command to go on, and the same result."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sharcs_pl.training.interrupt import GracefulStop, Interrupted
from tests.conftest import TINY

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
    assert "stopping at the end of this step" in err
    command = err.strip().splitlines()[-1]
    assert command.startswith("python -m sharcs_pl.train ")
    assert command.endswith("ckpt_path=last")
    assert not (tmp_path / "cut/metrics.json").exists()
    epochs_before = len((tmp_path / "cut/metrics.csv").read_text().splitlines()) - 1
    assert epochs_before < 5
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = start(tmp_path / "whole")
    assert whole.communicate(timeout=120)[1] == ""
    cut, uncut = last_weights(tmp_path / "cut"), last_weights(tmp_path / "whole")
    assert all(torch.equal(cut[name], uncut[name]) for name in uncut)
    for name in ("metrics.csv", "plan.csv", "predictions.tsv", "metrics.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_outside_training_it_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), GracefulStop(tmp_path / "last.ckpt"):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_one_does_not_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with GracefulStop(tmp_path / "last.ckpt") as stop:
        stop.training = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        assert "Ctrl-C again" in capsys.readouterr().err
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
