"""The environment that SLURM, torchrun and submitit set for this process, read before torch is imported.

A program that starts all processes of a run at once must start as many as the config asks for. A job that SLURM
requeues must find the directory it had.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharcs_pl.config import RunConfig
from sharcs_pl.config.errors import explain, is_user_error
from sharcs_pl.core.objective import DIRECTIONS, names_of
from sharcs_pl.launch.slurm import slurm_job

SUBMITIT = "hydra_plugins.hydra_submitit_launcher"


@dataclass(frozen=True)
class Started:
    """Processes that ``by`` has started for this run, on each of ``nodes`` machines."""

    by: str
    per_node: int
    nodes: int


def started(env: Mapping[str, str] = os.environ) -> Started | None:
    """Return the program that has started all processes of this run; None where Lightning starts the others itself."""
    if "TORCHELASTIC_RUN_ID" in env:
        return Started("torchrun", int(env["LOCAL_WORLD_SIZE"]), int(env.get("GROUP_WORLD_SIZE", 1)))
    if "SUBMITIT_LOCAL_NTASKS" in env:
        return Started("hydra.launcher.tasks_per_node", int(env["SUBMITIT_LOCAL_NTASKS"]), 1)
    if "SLURM_NTASKS" in env and slurm_job(env):
        nodes = int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES") or 1)
        return Started("srun", int(env["SLURM_NTASKS"]) // nodes, nodes)
    return None


def stamp(env: Mapping[str, str] = os.environ) -> str:
    """Return a name for a new run directory: the time, or the job (and step), so that a requeued job finds it again."""
    if slurm_job(env) is None:
        return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    job = env["SLURM_JOB_ID"]
    return f"slurm-{job}.{env['SLURM_STEP_ID']}" if "SLURM_STEP_ID" in env else f"slurm-{job}"


def processes(devices: Any) -> int:
    """Return the number of tasks a launcher must start on a node for ``trainer.devices``."""
    if isinstance(devices, list | tuple) or OmegaConf.is_list(devices):
        return len(devices)
    if str(devices) in ("auto", "-1"):
        raise ValueError(f"trainer.devices={devices} does not say how many tasks to start; give the number")
    return int(devices)


def gpus(accelerator: str, devices: Any) -> int | None:
    """Return the number of GPUs to ask for on a node; None unless the config asks for them by name."""
    return processes(devices) if accelerator in ("gpu", "cuda") else None


def register_resolvers() -> None:
    """Make ``${sharcs.stamp:}``, ``${sharcs.processes:…}`` and ``${sharcs.gpus:…,…}`` known to the yamls."""
    OmegaConf.register_new_resolver("sharcs.stamp", lambda: stamp(), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sharcs.processes", processes, replace=True)
    OmegaConf.register_new_resolver("sharcs.gpus", gpus, replace=True)


register_resolvers()


def one_process(config: RunConfig) -> bool:
    """Return True if the run is certainly one process."""
    trainer = config.trainer
    return str(trainer.devices) not in ("auto", "-1") and processes(trainer.devices) * trainer.num_nodes == 1


def check_started(config: RunConfig, sweeping: bool = False, env: Mapping[str, str] = os.environ) -> None:
    """Raise ``ValueError`` unless the processes that were started are those the config asks for."""
    found, trainer = started(env), config.trainer
    if found is None:
        _check_alone(config, sweeping, env)
        return
    if found.by == "srun":
        _check_srun(found, env)
    if str(trainer.devices) in ("auto", "-1"):
        return
    asked = processes(trainer.devices), trainer.num_nodes
    if asked != (found.per_node, found.nodes):
        raise ValueError(
            f"{found.by} started {_count(found.per_node, found.nodes)}, the config asks for {_count(*asked)}: "
            f"trainer.devices={found.per_node} trainer.num_nodes={found.nodes} would fit"
        )


def _check_alone(config: RunConfig, sweeping: bool, env: Mapping[str, str]) -> None:
    if "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", 1)) > 1:
        name = env.get("SLURM_JOB_NAME")
        raise ValueError(f"in a job named {name} the tasks do not find each other: add --job-name=train to srun")
    if config.trainer.num_nodes > 1 and "NODE_RANK" not in env:
        raise ValueError(f"trainer.num_nodes={config.trainer.num_nodes} needs srun, or torchrun on every node")
    if sweeping and not one_process(config):
        raise ValueError(
            f"this launcher starts one process per job, trainer.devices={config.trainer.devices} asks for more: leave "
            "hydra/launcher out, or choose hydra/launcher=slurm or local"
        )


def _check_srun(found: Started, env: Mapping[str, str]) -> None:
    if found.per_node * found.nodes == 1:
        return
    if "SLURM_STEP_ID" not in env:
        raise ValueError(f"this job has {_count(found.per_node, found.nodes)} and this is only one: put srun before it")
    if "SLURM_NTASKS_PER_NODE" not in env:
        raise ValueError("srun and sbatch need --ntasks-per-node=… in place of --ntasks=…")


def _count(per_node: int, nodes: int) -> str:
    return f"{per_node} process{'es' * (per_node > 1)} on {nodes} node{'s' * (nodes > 1)}"


def check_sweep(config: DictConfig, env: Mapping[str, str] = os.environ) -> None:
    """Raise ``ValueError`` for a sweep that would run once in every process, or that its launcher cannot run."""
    found = started(env)
    if found is not None and found.per_node * found.nodes > 1:
        raise ValueError(f"{found.by} would run the whole sweep in every process; start it once: sharcs train -m …")
    target = str(OmegaConf.select(config, "hydra.launcher._target_"))
    if target.startswith(SUBMITIT) and not is_installed(SUBMITIT):
        raise ValueError("this hydra/launcher needs a package that is not installed: pip install 'sharcs-pl[slurm]'")
    check_tasks(config.hydra.launcher, config.trainer.devices, config.trainer.num_nodes)
    check_directions(OmegaConf.select(config, "hydra.sweeper.direction"), config.objective)


def check_directions(given: Any, objective: Any) -> None:
    """Raise ``ValueError`` unless Optuna's directions are those of the values that each job returns."""
    names = names_of(objective)
    if given is None or not names or not all(name in DIRECTIONS for name in names):
        return  # an unknown one is told with the job's config
    several = OmegaConf.is_list(given) or isinstance(given, list)
    asked = [str(getattr(each, "name", each)) for each in (given if several else [given])]
    wanted = [DIRECTIONS[name] for name in names]
    if asked != wanted:
        raise ValueError(
            f"hydra.sweeper.direction={_listed(asked)} does not fit objective={_listed(names)}: give "
            f"hydra.sweeper.direction={_listed(wanted)}, or both values with objective=[metric,cost] "
            "hydra.sweeper.direction=[maximize,minimize]"
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"


def is_installed(name: str) -> bool:
    """Return True if the module can be imported. This imports its parents, but not the module itself."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def check_tasks(launcher: DictConfig, devices: Any, num_nodes: int) -> None:
    """Raise ``ValueError`` when a launcher that starts the tasks of every job starts others than this job needs."""
    if "tasks_per_node" not in launcher:
        return
    asked, given = (processes(devices), num_nodes), (launcher.tasks_per_node, launcher.nodes)
    if asked != given:
        raise ValueError(
            f"this launcher starts {_count(*given)} for each job, the job asks for {_count(*asked)}: choose "
            f"hydra/launcher=slurm or local, or add hydra.launcher.tasks_per_node={asked[0]} "
            f"hydra.launcher.nodes={asked[1]}; jobs of different sizes are different sweeps"
        )


def join_submitit(env: MutableMapping[str, str] = os.environ) -> None:
    """Pass submitit's variables for a task on this machine on to torch and Lightning."""
    if int(env.get("SUBMITIT_LOCAL_NTASKS", 1)) == 1:
        return
    env["RANK"] = env["LOCAL_RANK"] = env["SUBMITIT_LOCAL_GLOBALID"]
    env["WORLD_SIZE"] = env["SUBMITIT_LOCAL_NTASKS"]
    env["MASTER_ADDR"] = "127.0.0.1"
    # The same for all tasks of a job, and another for each job beside it: they are named after a process.
    env["MASTER_PORT"] = str(20000 + int(env["SUBMITIT_LOCAL_JOB_ID"]) % 30000)


@contextmanager
def picklable_errors(env: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Make an error in a job of a sweep readable for the sweep's own process; its traceback goes to the job's log.

    A process other than the first ends with exit code 1 instead: nobody asks for its result, and the others must not
    wait for it.
    """
    try:
        yield
    except Exception as error:
        if "SUBMITIT_EXECUTOR" in env and not is_user_error(error):
            traceback.print_exc()
        if any(int(env.get(name, 0)) for name in ("RANK", "SLURM_PROCID")):
            raise SystemExit(1) from error
        if can_be_pickled(error):
            raise
        kind = ValueError if is_user_error(error) else RuntimeError
        raise kind(explain(error, RunConfig)) from None


def can_be_pickled(error: Exception) -> bool:
    """Return True if the error comes out of another process as it went in."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)  # noqa: S301
    except Exception:  # noqa: BLE001  (whatever a foreign class does)
        return False
