"""The state of SLURM jobs, of this process's own and of others."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

# The names of jobs that srun --pty and salloc start.
INTERACTIVE = ("bash", "interactive")
_ENDED = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
)  # fmt: skip
CLUSTER = "SLURM_CLUSTER_NAME"  # set in jobs
_SECONDS = 30.0  # for scontrol to answer


@dataclass(frozen=True)
class SlurmJob:
    """A batch job. `id` is the name that ``scontrol`` takes, unchanged by a requeue; `restarts` counts the requeues."""

    id: str
    restarts: int = 0


def slurm_job(environ: Mapping[str, str]) -> SlurmJob | None:
    """Return the job in the variables; None outside SLURM and in an interactive job, which cannot be requeued."""
    if not {"SLURM_JOB_ID", "SLURM_PROCID"} <= set(environ) or environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else environ["SLURM_JOB_ID"]
    return SlurmJob(job, int(environ.get("SLURM_RESTART_COUNT") or 0))


def is_over(job: SlurmJob, cluster: str | None) -> bool | None:
    """Return True if SLURM says that this start of the job has ended; None where SLURM cannot tell."""
    if cluster is None or cluster != (os.environ.get(CLUSTER) or _cluster_name()):
        return None
    code, told = _scontrol("-o", "show", "job", job.id)
    if code is None:
        return None
    if code != 0:
        return "Invalid job id" in told or None  # forgotten, some minutes after its end
    state, restarts = (re.search(rf"\b{name}=(\w+)", told) for name in ("JobState", "Restarts"))
    if state is None or restarts is None:
        return None
    return state.group(1) in _ENDED or int(restarts.group(1)) > job.restarts


def _cluster_name() -> str | None:
    code, told = _scontrol("show", "config")
    found = re.search(r"^ClusterName\s*=\s*(\S+)", told, re.MULTILINE)
    return found.group(1) if code == 0 and found else None


def _scontrol(*words: str) -> tuple[int | None, str]:
    """Return the output of scontrol after its exit code, which is None where it cannot be run."""
    try:
        done = subprocess.run(
            ["scontrol", *words],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return done.returncode, done.stdout + done.stderr
