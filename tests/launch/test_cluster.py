from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from hydra_plugins.sharcs_sweeper import finish
from sharcs_pl.config import RunConfig
from sharcs_pl.core.errors import Diverged
from sharcs_pl.launch.cluster import (
    Started,
    can_be_pickled,
    check_directions,
    check_started,
    check_sweep,
    check_tasks,
    join_submitit,
    one_process,
    picklable_errors,
    stamp,
    started,
)
from sharcs_pl.runs.directory import run_config
from tests.conftest import compose_config

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}
SRUN = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"}
LOCAL = {"SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_JOB_ID": "41234"}


def config(*overrides: str) -> RunConfig:
    return run_config(compose_config(*overrides))


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, None),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, None),  # Lightning's own
        (TORCHRUN, Started("torchrun", 2, 1)),
        (TORCHRUN | SRUN, Started("torchrun", 2, 1)),
        (SRUN, Started("srun", 2, 2)),
        (SRUN | {"SLURM_JOB_NAME": "interactive"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),  # a shell of salloc
        (LOCAL, Started("hydra.launcher.tasks_per_node", 2, 1)),
    ],
)
def test_who_started_the_processes(env: dict[str, str], found: Started | None) -> None:
    assert started(env) == found


@pytest.mark.parametrize(
    ("overrides", "env"),
    [
        ((), {}),
        (("trainer.devices=2",), {}),
        (("trainer.devices=2",), TORCHRUN),
        (("trainer.devices=2", "trainer.num_nodes=2"), SRUN),
        (("trainer.devices=auto",), TORCHRUN),
        (("trainer.devices=2", "trainer.num_nodes=2"), {"NODE_RANK": "1"}),
        (("trainer.devices=[0,1]",), LOCAL),
        ((), BATCH | {"SLURM_NTASKS": "1", "SLURM_NNODES": "1"}),
    ],
)
def test_the_right_number_of_processes_is_let_through(overrides: tuple[str, ...], env: dict[str, str]) -> None:
    check_started(config(*overrides), env=env)


@pytest.mark.parametrize(
    ("overrides", "env", "told"),
    [
        ((), TORCHRUN, "torchrun started 2 processes on 1 node, the config asks for 1 process on 1 node"),
        (("trainer.devices=2",), SRUN, "trainer.devices=2 trainer.num_nodes=2 would fit"),
        (("trainer.devices=4",), BATCH, "put srun before it"),
        (
            ("trainer.devices=2", "trainer.num_nodes=2"),
            {key: value for key, value in SRUN.items() if key != "SLURM_NTASKS_PER_NODE"},
            "--ntasks-per-node",
        ),
        (("trainer.devices=2",), SRUN | {"SLURM_JOB_NAME": "interactive"}, "--job-name=train"),
        (("trainer.num_nodes=2",), {}, "trainer.num_nodes=2 needs srun, or torchrun"),
    ],
)
def test_the_wrong_number_of_processes_is_refused(overrides: tuple[str, ...], env: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_started(config(*overrides), env=env)


def test_a_launcher_of_one_process_refuses_a_job_of_two() -> None:
    check_started(config(), sweeping=True, env={})
    with pytest.raises(ValueError, match="leave hydra/launcher out"):
        check_started(config("trainer.devices=2"), sweeping=True, env={})


@pytest.mark.parametrize(
    ("devices", "one"), [("1", True), ("[3]", True), ("2", False), ("[0,1]", False), ("auto", False), ("-1", False)]
)
def test_one_process(devices: str, one: bool) -> None:
    assert one_process(config(f"trainer.devices={devices}")) is one


def test_a_requeued_job_finds_the_directory_it_had() -> None:
    assert stamp(BATCH) == "slurm-7"
    assert stamp(SRUN) == stamp(SRUN | {"SLURM_PROCID": "3", "SLURM_RESTART_COUNT": "1"}) == "slurm-7.0"
    assert stamp(SRUN | {"SLURM_STEP_ID": "1"}) == "slurm-7.1"  # the next command of the same script
    assert stamp({}).startswith("20")
    assert stamp(SRUN | {"SLURM_JOB_NAME": "bash"}).startswith("20")  # commands typed into the same job


def launcher_config(name: str, *overrides: str) -> Any:
    """What Hydra hands to a launcher, from the yaml."""
    yaml = OmegaConf.load(Path(__file__).parents[2] / "conf/hydra/launcher" / f"{name}.yaml")
    cfg = compose_config(*overrides)
    whole = OmegaConf.create({"trainer": OmegaConf.to_container(cfg.trainer), "hydra": {"launcher": yaml}})
    return whole


@pytest.mark.parametrize(
    ("overrides", "tasks", "nodes", "gpus"),
    [
        ((), 1, 1, None),
        (("trainer.devices=4", "trainer.num_nodes=2"), 4, 2, None),
        (("trainer.devices=[0,2]", "trainer.accelerator=gpu"), 2, 1, 2),
    ],
)
def test_slurm_starts_a_task_for_each_device(
    overrides: tuple[str, ...], tasks: int, nodes: int, gpus: int | None
) -> None:
    cfg = launcher_config("slurm", *overrides)
    launcher = cfg.hydra.launcher
    assert (launcher.tasks_per_node, launcher.nodes, launcher.gpus_per_node) == (tasks, nodes, gpus)
    assert launcher.max_num_timeout > 0
    assert launcher.additional_parameters == {"requeue": True}
    check_tasks(launcher, cfg.trainer.devices, cfg.trainer.num_nodes)


def test_a_job_that_needs_other_tasks_than_its_launcher_starts_is_refused() -> None:
    cfg = launcher_config("slurm")
    with pytest.raises(ValueError, match=r"starts 1 process on 1 node .* hydra.launcher.tasks_per_node=2"):
        check_tasks(cfg.hydra.launcher, 2, 1)
    check_tasks(OmegaConf.create({"_target_": "basic"}), 2, 1)


def test_a_sweep_is_not_started_once_per_process() -> None:
    cfg = launcher_config("slurm")
    with pytest.raises(ValueError, match="torchrun would run the whole sweep in every process"):
        check_sweep(cfg, TORCHRUN)


def test_a_launcher_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharcs_pl.launch.cluster.SUBMITIT", "hydra_plugins.not_there.launcher")
    cfg = launcher_config("slurm")
    cfg.hydra.launcher._target_ = "hydra_plugins.not_there.launcher.SlurmLauncher"
    with pytest.raises(ValueError, match=r"sharcs-pl\[slurm\]"):
        check_sweep(cfg, {})


BOTH = ["maximize", "minimize"]


@pytest.mark.parametrize(
    ("direction", "objective"),
    [
        (None, "metric"),
        ("maximize", "metric"),
        ("minimize", ["cost"]),
        (BOTH, ["metric", "cost"]),
        ("minimize", "x"),
        ("minimize", None),
        ("minimize", 3),
        ("minimize", [["metric"]]),
    ],
)
def test_directions_that_fit(direction: Any, objective: Any) -> None:
    cfg = OmegaConf.create({"direction": direction, "objective": objective})
    check_directions(cfg.direction, cfg.objective)


@pytest.mark.parametrize(
    ("direction", "objective", "given", "advised"),
    [
        ("minimize", "metric", "minimize does not fit objective=metric", "maximize, or both"),
        (BOTH, "metric", r"\[maximize,minimize\] does not fit objective=metric", "maximize, or both"),
        (BOTH[::-1], ["metric", "cost"], r"\[minimize,maximize\] does", r"\[maximize,minimize\], or"),
        (
            "maximize",
            ["metric", "cost"],
            r"maximize does not fit objective=\[metric,cost\]",
            r"\[maximize,minimize\], or",
        ),
    ],
)
def test_directions_that_would_look_for_the_worst_are_refused(
    direction: Any, objective: Any, given: str, advised: str
) -> None:
    cfg = OmegaConf.create({"direction": direction, "objective": objective})
    key = r"hydra\.sweeper\.direction="
    with pytest.raises(ValueError, match=f"^{key}{given}.*: give {key}{advised}"):
        check_directions(cfg.direction, cfg.objective)


def test_submitits_tasks_on_this_machine_meet() -> None:
    first, second, other = ({**LOCAL, "SUBMITIT_LOCAL_GLOBALID": str(rank)} for rank in (0, 1, 0))
    other["SUBMITIT_LOCAL_JOB_ID"] = "41235"
    for env in (first, second, other):
        join_submitit(env)
    assert (first["RANK"], second["RANK"], second["LOCAL_RANK"], first["WORLD_SIZE"]) == ("0", "1", "1", "2")
    assert first["MASTER_PORT"] == second["MASTER_PORT"] != other["MASTER_PORT"]
    alone = LOCAL | {"SUBMITIT_LOCAL_NTASKS": "1"}
    before = dict(alone)
    join_submitit(alone)
    assert alone == before


def test_an_error_of_a_job_can_be_read_in_another_process() -> None:
    with pytest.raises(ValueError, match="cannot read 'a b'") as caught, picklable_errors({}):
        raise OverrideParseException("a b", "no")  # does not survive pickle
    assert can_be_pickled(caught.value)
    with pytest.raises(KeyError), picklable_errors({}):
        raise KeyError("as it is")
    with pytest.raises(Diverged, match="the loss is nan") as diverged, picklable_errors({}):
        raise Diverged("the loss is nan")
    assert can_be_pickled(diverged.value)


def test_a_diverged_job_is_named_and_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    bad = JobReturn(overrides=["optim.lr=9"], status=JobStatus.FAILED)
    bad.return_value = Diverged("the loss is nan")
    good = JobReturn(overrides=["optim.lr=1"], status=JobStatus.COMPLETED)
    good.return_value = 0.5
    both = JobReturn(overrides=["optim.lr=2"], status=JobStatus.COMPLETED)
    both.return_value = (0.5, 0.75)
    with pytest.raises(SystemExit) as left:
        finish([bad, good, both], left_out=0)
    assert left.value.code == 1
    told = capsys.readouterr().err
    assert "2 of 3 jobs ended well\n  optim.lr=9: error: the loss is nan\n  optim.lr=1: 0.5000\n" in told
    assert "  optim.lr=2: 0.5000, 0.7500\n" in told


@pytest.mark.parametrize("env", [{"RANK": "1"}, {"SLURM_PROCID": "1"}])
def test_a_process_other_than_the_first_ends_with_its_error(env: dict[str, str]) -> None:
    with pytest.raises(SystemExit) as left, picklable_errors(env):
        raise KeyError("gone")
    assert left.value.code == 1
