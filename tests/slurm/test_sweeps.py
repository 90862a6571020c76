"""Sweeps of runs of two processes under every launcher: as many directories as jobs, each with one config."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sharcs_pl.runs.directory import run_config
from tests.conftest import TINY, compose_config
from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.jobs import LONG, PATIENCE, ROOT, TRAIN, Job, curves, digest, metrics, run, run_dirs
from tests.slurm.jobs import wait_for_epoch as trained

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster for all
DDP = ("trainer=ddp", "trainer.devices=2")
GRID = [(lr, seed) for lr in ("1e-4", "3e-4") for seed in ("1", "2")]
SMALL = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=20")
ENDLESS = (*(word for word in TINY if "max_epochs" not in word), "trainer.max_epochs=3,100000")
needs_submitit = pytest.mark.skipif(
    find_spec("submitit") is None, reason="hydra-submitit-launcher is not installed: pip install -e '.[slurm]'"
)


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param((), id="Hydra's own"),
        pytest.param(("hydra/launcher=local",), id="submitit on this machine", marks=needs_submitit),
        pytest.param(("hydra/launcher=slurm", *SMALL), id="submitit on SLURM", marks=needs_submitit),
    ],
)
def test_four_jobs_of_two_processes(cluster: Cluster, folder: Path, launcher: tuple[str, ...]) -> None:
    words = (*TINY, *DDP, "optim.lr=1e-4,3e-4", "seed=1,2")
    done = run(cluster, folder, *TRAIN, "-m", *launcher, *words, "hydra.sweep.dir=sweep", seconds=2 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 jobs ended well" in done.stderr
    assert run_dirs(folder) == [f"sweep/{number}" for number in range(4)]
    for number, (lr, seed) in enumerate(GRID):
        config = run_config(compose_config(*TINY, *DDP, f"optim.lr={lr}", f"seed={seed}"))
        assert digest(folder / "sweep" / str(number)) == config.digest()
        assert f"seed={seed}: {metrics(folder / 'sweep' / str(number))['routed']['value']:.4f}" in done.stderr
    assert not [path for path in folder.rglob("*") if set("=,") & set(path.name)]


@needs_submitit
@pytest.mark.parametrize("number", ["USR2"])
def test_a_job_of_a_sweep_is_requeued_and_its_result_is_waited_for(cluster: Cluster, folder: Path, number: str) -> None:
    words = ("-m", "hydra/launcher=slurm", *SMALL, *LONG, *DDP, "seed=1,2", "hydra.sweep.dir=sweep")
    environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*TRAIN, *words], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as sweep:
        assert wait_for(lambda: (folder / "sweep/1/metrics.csv").exists(), PATIENCE)
        (array,) = {line.split("_")[0] for line in cluster.command("squeue", "-h", "-o", "%i").split()}
        job = Job(cluster, f"{array}_1", folder)
        trained(job, folder / "sweep" / "1", 5)
        cluster.command("scancel", f"--signal={number}", job.id)
        assert wait_for(lambda: job.field("Restarts") == "1", PATIENCE)
        _, told = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, told
    assert "2 of 2 jobs ended well" in told
    assert len(curves(folder / "sweep" / "1")) == 30
    assert run_dirs(folder) == ["sweep/0", "sweep/1"]


@needs_submitit
def test_a_job_that_is_killed_is_reported_beside_the_others(cluster: Cluster, folder: Path) -> None:
    words = ("-m", "hydra/launcher=slurm", *SMALL, *ENDLESS, "hydra.sweep.dir=sweep")
    environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*TRAIN, *words], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as sweep:
        assert wait_for(lambda: (folder / "sweep/1/metrics.csv").exists(), PATIENCE)
        assert wait_for(lambda: (folder / "sweep/0/metrics.json").exists(), PATIENCE)
        (array,) = {line.split("_")[0] for line in cluster.command("squeue", "-h", "-o", "%i").split()}
        cluster.command("scancel", "--signal=KILL", f"{array}_1")
        _, told = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 1, told
    assert "1 of 2 jobs ended well" in told
    assert f"trainer.max_epochs=3: {metrics(folder / 'sweep/0')['routed']['value']:.4f}" in told
    assert "trainer.max_epochs=100000: error: no result; its log is under" in told


def test_torchrun_makes_one_run_directory(cluster: Cluster, folder: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    done = run(cluster, folder, *torchrun, "sharcs_pl.train", *TINY, *DDP)
    assert done.returncode == 0, done.stderr
    assert len(run_dirs(folder)) == 1
