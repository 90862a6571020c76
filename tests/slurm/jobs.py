"""Jobs on the cluster of the tests: submit, wait, look at what they left."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import TINY
from tests.slurm.cluster import Cluster, wait_for

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (sys.executable, "-m", "sharcs_pl.train")
PATIENCE = 600  # seconds: the processors may be busy with something else
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
LONG = (*TINY, "trainer.max_epochs=30", "width.bounds=[[0.45,1],[0,0.55]]")
"""A run of some seconds, in which a signal comes in the middle."""


@dataclass(frozen=True)
class Job:
    """A job of the cluster, its log in ``folder``."""

    cluster: Cluster
    id: str
    folder: Path

    def field(self, name: str) -> str:
        shown = self.cluster.command("scontrol", "-o", "show", "job", self.id)
        found = re.search(rf"(?:^|\s){name}=(\S*)", shown)
        assert found is not None, shown
        return found.group(1)

    @property
    def state(self) -> str:
        return self.field("JobState")

    @property
    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.out")))

    def wait(self, seconds: float = PATIENCE) -> None:
        """Until the job has completed well."""
        assert wait_for(lambda: self.state in ENDED, seconds, 0.5), f"{self.state}\n{self.log}"
        assert self.state == "COMPLETED", f"{self.state}\n{self.log}"


def submit(cluster: Cluster, folder: Path, *words: str) -> Job:
    """``sbatch`` in the folder, with this Python's own environment first on PATH."""
    path = f"{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    environment = cluster.environment | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sbatch", "--parsable", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return Job(cluster, done.stdout.strip(), folder)


def run(cluster: Cluster, folder: Path, *words: str, seconds: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """A command in the folder, as a user of the cluster types it."""
    environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


def metrics(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "metrics.json").read_text())


def curves(run_dir: Path) -> list[dict[str, str]]:
    """The rows of ``metrics.csv``; none where it is not written yet."""
    path = run_dir / "metrics.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def wait_for_epoch(job: Job, run_dir: Path, epoch: int) -> None:
    """Until the run has written so many epochs."""
    assert wait_for(lambda: len(curves(run_dir)) > epoch or job.state in ENDED, PATIENCE), job.log
    assert job.state == "RUNNING", job.log


def run_dirs(folder: Path) -> list[str]:
    """Every folder below that holds a run."""
    return sorted(str(path.parent.parent.relative_to(folder)) for path in folder.rglob(".hydra/run.json"))


def digest(run_dir: Path) -> str:
    return json.loads((run_dir / ".hydra" / "run.json").read_text())["digest"]
