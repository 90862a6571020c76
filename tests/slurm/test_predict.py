"""Many files answered by the tasks of a job array on a real SLURM."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.predict.conftest import saved, texts_of, write_texts
from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.jobs import ENDED, PATIENCE, ROOT, Job, run, submit

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster for all
SCRIPT = ("--cpus-per-task=1", str(ROOT / "slurm" / "predict.sbatch"))
WORDS = ("run=model", "input=data", "batch_size=4")


@pytest.fixture
def project(folder: Path) -> Path:
    """A folder with a model and data."""
    saved(folder / "model")
    (folder / "data" / "x").mkdir(parents=True)
    return folder


def same(project: Path) -> None:
    """The answers are those of one process that nobody interrupts."""
    found = {path.relative_to(project / "answers"): path for path in (project / "answers").rglob("*.*")}
    found = {name: path for name, path in found.items() if path.is_file() and name.parts[0] != ".sharcs"}
    whole = {path.relative_to(project / "whole"): path for path in (project / "whole").rglob("*.csv")}
    assert sorted(found) == sorted(whole)
    assert [path.read_bytes() for _, path in sorted(found.items())] == [
        path.read_bytes() for _, path in sorted(whole.items())
    ]


def test_the_tasks_of_an_array_share_the_files(cluster: Cluster, project: Path) -> None:
    for number in range(5):
        write_texts(project / "data" / f"{'x/' * (number % 2)}{number}.csv", texts_of(40, number))
    job = submit(cluster, project, "--array=1-2", *SCRIPT, *WORDS, "output=answers")
    for task in ("1", "2"):
        Job(cluster, f"{job.id}_{task}", project).wait()
    assert "3 of 3 files of shard 1/2: 120 texts" in job.log
    assert "2 of 2 files of shard 2/2: 80 texts" in job.log
    predict = (sys.executable, "-m", "sharcs_pl.predict", *WORDS)
    assert run(cluster, project, *predict, "output=whole").returncode == 0
    same(project)
    again = run(cluster, project, *predict, "output=answers", "device=auto")
    assert again.stderr.count("earlier") == 5, again.stderr

    alone = submit(cluster, project, "--array=3", *SCRIPT, *WORDS, "output=other")
    assert wait_for(lambda: Job(cluster, alone.id, project).state in ENDED, PATIENCE)
    assert "error: the tasks are not 1 to n; give --array=1-n" in alone.log
    words = ("--array=3", "--export=ALL,SHARCS_PARTS=4", *SCRIPT, *WORDS, "output=other")
    Job(cluster, submit(cluster, project, *words).id, project).wait()
    assert "1 of 1 files of shard 3/4" in alone.log


def test_a_task_near_its_time_limit_is_requeued_and_goes_on(cluster: Cluster, project: Path) -> None:
    write_texts(project / "data" / "a.csv", texts_of(12_000))
    job = submit(cluster, project, "--array=1-1", *SCRIPT, *WORDS, "output=answers")
    task, part = Job(cluster, f"{job.id}_1", project), project / "answers" / "a.csv.part"
    assert wait_for(lambda: (part.exists() and part.stat().st_size > 300_000) or task.state in ENDED, PATIENCE), job.log
    cluster.command("scancel", "--signal=USR1", "--batch", task.id)
    assert wait_for(lambda: task.field("Restarts") == "1" and task.state == "PENDING", PATIENCE), job.log
    assert "interrupted with 0 of 1 files done; the same command goes on" in job.log
    head, first, *rest = part.read_text().splitlines(keepends=True)
    part.write_text("".join([head, json.dumps(json.loads(first) | {"label": "marked"}) + "\n", *rest]))
    task.wait()
    answers = (project / "answers" / "a.csv").read_text()
    assert answers.splitlines()[1].split(",")[1] == "marked", "it began again"
    assert run(cluster, project, sys.executable, "-m", "sharcs_pl.predict", *WORDS, "output=whole").returncode == 0
    whole = (project / "whole" / "a.csv").read_text()
    assert answers.splitlines()[2:] == whole.splitlines()[2:]
