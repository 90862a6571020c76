"""What SLURM says about the job that this process belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The names of jobs that srun --pty and salloc start.
_INTERACTIVE = ("bash", "interactive")


@dataclass(frozen=True)
class SlurmJob:
    """A batch job. `id`: as ``scontrol`` takes it, the same after a requeue; `restarts`: how often it was requeued."""

    id: str
    restarts: int = 0


def slurm_job(environ: Mapping[str, str]) -> SlurmJob | None:
    """The job that the variables tell of; None outside SLURM and in an interactive job, which cannot be requeued."""
    if "SLURM_JOB_ID" not in environ or environ.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return None
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else environ["SLURM_JOB_ID"]
    return SlurmJob(job, int(environ.get("SLURM_RESTART_COUNT") or 0))
