"""Processes of a run as users start them: by Lightning and by torchrun, and killed one or all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY

pytestmark = pytest.mark.slow

ROOT = str(Path(__file__).resolve().parent.parent)
OPTIONS = (*TINY, "trainer=ddp", "width.bounds=[[0.5,1],[0,0.5]]")
LIMIT = 900  # seconds for a run on a busy machine


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1", "SHARCS_CACHE": str(cwd / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out
    return out


def results(folder: Path) -> tuple[str, str, dict[str, torch.Tensor]]:
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return (folder / "metrics.json").read_text(), (folder / "metrics.csv").read_text(), weights


def assert_same(one: Path, other: Path) -> None:
    (*first, weights), (*second, expected) = results(one), results(other)
    assert first == second
    assert [name for name in expected if not torch.equal(weights[name], expected[name])] == []


def test_torchrun_and_lightning_give_the_same_run_in_one_directory(tmp_path: Path) -> None:
    finish(start("sharcs_pl.train", *OPTIONS, "hydra.run.dir=own", cwd=tmp_path))
    port = "--master-port=0"
    words = ("torch.distributed.run", "--nproc-per-node=2", "--standalone", port, "-m", "sharcs_pl.train", *OPTIONS)
    out = finish(start(*words, cwd=tmp_path))
    folders = [path.parent for path in (tmp_path / "runs").rglob("metrics.json") if path.parent.name != "model"]
    made = [path for path in (tmp_path / "runs").glob("*/*") if path.is_dir()]
    assert len(folders) == len(made) == 1, made
    assert out.count("results in ") == 1
    assert_same(folders[0], tmp_path / "own")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if "train_ddp_process" in Path(f"/proc/{child}/cmdline").read_text()]


LONGER = ("sharcs_pl.train", *OPTIONS, "checkpoint.every_n_steps=1", "trainer.max_epochs=6")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing killed."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(*LONGER, "hydra.run.dir=run", cwd=folder))
    return folder / "run"


@pytest.mark.parametrize("killed", ["second", "first", "all"])
def test_a_run_whose_processes_are_killed_ends_and_goes_on_exactly(tmp_path: Path, whole: Path, killed: str) -> None:
    process = start(*LONGER, "hydra.run.dir=cut", cwd=tmp_path)
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    began = time.monotonic()
    while not last.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began < LIMIT
        time.sleep(0.01)
    (second,) = children(process.pid)
    targets = {"second": [second], "first": [process.pid], "all": [process.pid, second]}[killed]
    for pid in targets:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT)  # the others must not wait for the dead: their output ends, so they have
    assert process.returncode != 0
    assert not (tmp_path / "cut" / "metrics.json").exists()
    finish(start(*LONGER, "hydra.run.dir=cut", "ckpt_path=last", cwd=tmp_path))
    assert_same(tmp_path / "cut", whole)
    assert json.loads((tmp_path / "cut" / "metrics.json").read_text())["epochs"] == 6
