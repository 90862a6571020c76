"""The checks of a training run before torch is imported: its inputs, and what to do with its directory."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharcs_pl.config import RunConfig
from sharcs_pl.data.own import save_task
from sharcs_pl.launch.processes import is_rank_zero, is_single_process
from sharcs_pl.launch.slurm import SlurmJob, slurm_job
from sharcs_pl.runs.auto import decide_auto
from sharcs_pl.runs.directory import RunState, check_same_data, decide
from sharcs_pl.runs.identity import Facts, read_facts
from sharcs_pl.runs.inputs import TrainingInputs, read_inputs


@dataclass(frozen=True)
class Preflight:
    """A checked run. `config` has a value for every key; `derived` holds those that were ``auto``. `job` is the SLURM
    job it belongs to. `resumes` tells if the directory's run is gone on with, and `decided` if that is final. `facts`
    and `seen`, which identify the contents of the inputs and the training texts, are known to the first process
    alone."""

    config: RunConfig
    derived: dict[str, Any]
    inputs: TrainingInputs
    job: SlurmJob | None
    resumes: bool
    decided: bool
    facts: Facts | None
    seen: np.ndarray | None


def preflight(config: RunConfig, run_dir: Path) -> Preflight:
    """Read and check all that a training run starts from. Raise ``ValueError`` naming the key, file or line at
    fault."""
    config, derived = decide_auto(config, run_dir)
    job, alone = slurm_job(os.environ), is_single_process()
    resumes = alone and decide(config, run_dir, job) is RunState.RESUME
    inputs = read_inputs(config, run_dir, resumes)
    facts, seen = read_facts(config, inputs) if is_rank_zero() else (None, None)
    if resumes and facts is not None:
        check_same_data(run_dir, facts)
    if config.task.save_as and is_rank_zero():
        keep_task(config, Path("conf"))
    return Preflight(config, derived, inputs, job, resumes, alone, facts, seen)


def keep_task(config: RunConfig, folder: Path) -> None:
    """Write custom data's keys as a task of its own name."""
    name = str(config.task.save_as)
    saved = save_task(vars(config.task), name, folder)
    print(f"{saved} is written; from now on task={name} is enough", file=sys.stderr)
