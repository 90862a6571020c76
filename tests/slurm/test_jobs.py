"""Runs on a real SLURM: scripts, several nodes, and jobs that are requeued and go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.jobs import LONG, PATIENCE, ROOT, TRAIN, Job, curves, digest, metrics, run, run_dirs, submit
from tests.slurm.jobs import wait_for_epoch as trained

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster for all
SCRIPT = ("--cpus-per-task=1", str(ROOT / "slurm" / "train.sbatch"))
ARRAY = ("--array=1-2", "--cpus-per-task=1", str(ROOT / "slurm" / "sweep.sbatch"))
DDP = ("trainer=ddp", "trainer.devices=2")


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(cluster, folder, *TRAIN, *LONG, *DDP, "hydra.run.dir=whole")
    assert done.returncode == 0, done.stderr
    return folder / "whole"


def same(run_dir: Path, whole: Path, first_row_is_marked: bool = False) -> None:
    """The run ended as the uninterrupted one did."""
    assert digest(run_dir) == digest(whole)
    assert metrics(run_dir) == metrics(whole)
    assert curves(run_dir)[first_row_is_marked:] == curves(whole)[first_row_is_marked:]


def test_the_script_trains_in_one_directory_on_every_device(cluster: Cluster, folder: Path) -> None:
    job = submit(cluster, folder, *SCRIPT, *TINY)
    job.wait()
    assert run_dirs(folder) == [f"runs/slurm-{job.id}"]
    assert metrics(folder / "runs" / f"slurm-{job.id}")["epochs"] == 3


def test_two_nodes_of_two_processes_train_what_one_process_trains(cluster: Cluster, folder: Path) -> None:
    srun = ("timeout", str(PATIENCE), "srun", "--nodes=2", "--ntasks-per-node=2", "--job-name=train")
    done = run(cluster, folder, *srun, *TRAIN, *TINY, *DDP, "trainer.num_nodes=2")
    assert done.returncode == 0, done.stderr
    (several,) = run_dirs(folder)
    assert several.startswith("runs/graded-tiny-sharcs/slurm-")
    assert run(cluster, folder, *TRAIN, *TINY, "hydra.run.dir=one").returncode == 0
    one, four = metrics(folder / "one"), metrics(folder / several)
    assert four["routed"]["value"] == pytest.approx(one["routed"]["value"])
    assert four["routed"]["macs"] == pytest.approx(one["routed"]["macs"])


def test_the_sweep_script_runs_each_line_in_a_directory_of_its_own(cluster: Cluster, folder: Path) -> None:
    (folder / "sweep.txt").write_text("seed=1\nseed=2 'width.bounds=[[0.5, 1], [0, 0.5]]'\n")
    job = submit(cluster, folder, *ARRAY, "sweep.txt", *TINY)
    for task in ("1", "2"):
        Job(cluster, f"{job.id}_{task}", folder).wait()
    assert run_dirs(folder) == [f"runs/sweeps/{job.id}/{task}" for task in ("1", "2")]
    assert metrics(folder / "runs" / "sweeps" / job.id / "2")["seed"] == 2


def interrupt(job: Job, run_dir: Path, *words: str) -> None:
    """Disturb the job in its fifth epoch or later, and mark the first row of its curves while it waits."""
    trained(job, run_dir, 5)
    job.cluster.command(*words, job.id)
    assert wait_for(lambda: job.field("Restarts") == "1" and job.state == "PENDING", PATIENCE), job.log
    assert (run_dir / "checkpoints" / "last.ckpt").exists(), job.log
    path = run_dir / "metrics.csv"
    head, row, *rest = path.read_text().splitlines(keepends=True)
    cells = row.split(",")
    path.write_text("".join([head, ",".join([*cells[:2], "1234.5", *cells[3:]]), *rest]))


@pytest.mark.parametrize(
    "words",
    [("scancel", "--signal=USR1"), ("scontrol", "requeue")],
    ids=["SIGUSR1", "scontrol requeue"],
)
def test_a_job_told_to_stop_is_requeued_and_goes_on(
    cluster: Cluster, folder: Path, whole: Path, words: tuple[str, ...]
) -> None:
    job = submit(cluster, folder, *SCRIPT, *LONG)
    run_dir = folder / "runs" / f"slurm-{job.id}"
    interrupt(job, run_dir, *words)
    job.wait()
    assert "1234.5" in curves(run_dir)[0].values(), "it began again"
    assert job.log.count("training samples") == 2, job.log  # both starts are in one log
    same(run_dir, whole, first_row_is_marked=True)
    assert run_dirs(folder) == [f"runs/slurm-{job.id}"]


def test_a_job_that_reaches_its_time_limit_goes_on_in_another(cluster: Cluster, folder: Path) -> None:
    # SLURM keeps time by the minute, and sends the signal up to a minute early: two to three minutes after the start.
    job = submit(cluster, folder, "--time=4", "--signal=USR1@60", *SCRIPT, *TINY, "trainer.max_epochs=100000")
    run_dir = folder / "runs" / f"slurm-{job.id}"
    assert wait_for(lambda: job.field("Restarts") == "1", PATIENCE, 1), job.log
    done = len(curves(run_dir))
    assert done > 5
    trained(job, run_dir, done + 1)
    job.cluster.command("scancel", job.id)
    assert [int(row["epoch"]) for row in curves(run_dir)] == list(range(len(curves(run_dir))))
