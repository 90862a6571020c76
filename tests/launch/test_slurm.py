from __future__ import annotations

import pytest

from sharcs_pl.launch.slurm import SlurmJob, slurm_job

SHELL = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"}  # of salloc --job-name=train
BATCH = SHELL | {"SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        (SHELL, None),
        (BATCH, SlurmJob("7")),
        (BATCH | {"SLURM_RESTART_COUNT": "2"}, SlurmJob("7", 2)),
        (BATCH | {"SLURM_JOB_NAME": "interactive"}, None),
        (BATCH | {"SLURM_JOB_NAME": "bash"}, None),
        (BATCH | {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}, SlurmJob("5_3")),
    ],
)
def test_the_job_as_scontrol_takes_it(variables: dict[str, str], job: SlurmJob | None) -> None:
    assert slurm_job(variables) == job
