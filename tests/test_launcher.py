"""A sweep whose jobs are several processes: each is a command of its own, for that job alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf, open_dict

from hydra_plugins.sharcs_launcher import command, job_folder, job_return, run_command
from hydra_plugins.sharcs_sweeper import is_lost_job
from sharcs_pl.config import RunConfig, conf_dir
from tests.slurm.cluster import wait_for


def job(tmp_path: Path, *hydra_overrides: str, **more: Any) -> Any:
    """What of a composed job the launcher reads."""
    hydra = {
        "job": {"num": 3, "config_name": "train"},
        "sweep": {"dir": str(tmp_path / "sweep"), "subdir": "${hydra.job.num}"},
        "runtime": {"config_sources": [{"provider": "main", "path": "conf"}]},
        "overrides": {"hydra": list(hydra_overrides), "task": []},
    }
    return OmegaConf.merge(OmegaConf.create({"hydra": hydra, "objective": "metric"}), OmegaConf.create({"hydra": more}))


def test_the_command_is_the_jobs_own(tmp_path: Path) -> None:
    of_the_sweep = ("hydra.sweep.dir=x", "+hydra.sweep.more=1", "hydra/launcher=sharcs", "hydra.mode=MULTIRUN")
    words = command(job(tmp_path, *of_the_sweep, "hydra.verbose=true"), ["seed=2", "a=[[0.8,1]]"], tmp_path / "a b")
    assert words[:3] == [sys.executable, "-m", "sharcs_pl.train"]
    assert words[3:] == ["seed=2", "a=[[0.8,1]]", "hydra.verbose=true", f'hydra.run.dir="{tmp_path}/a b"']


def test_the_command_finds_the_configs_of_the_sweep(tmp_path: Path) -> None:
    sources = [{"provider": "main", "path": "conf"}, {"provider": "command-line", "path": "mine"}]
    other = job(tmp_path, job={"num": 3, "config_name": "own"}, runtime={"config_sources": sources})
    assert command(other, [], tmp_path)[3:7] == ["--config-name", "own", "--config-dir", "mine"]


def test_a_job_lies_where_hydra_would_put_it(tmp_path: Path) -> None:
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("train", [f"hydra.sweep.dir={tmp_path}"], return_hydra_config=True)
    with open_dict(composed):
        composed.hydra.job.num = 3
    assert job_folder(composed) == tmp_path / "3"


@pytest.mark.parametrize(("code", "kind"), [(2, ValueError), (1, RuntimeError), (-9, RuntimeError)])
def test_a_command_that_fails_is_a_failed_job(tmp_path: Path, code: int, kind: type) -> None:
    done = job_return(["seed=2"], job(tmp_path), tmp_path, code)
    assert done.status is JobStatus.FAILED
    assert type(done._return_value) is kind


def test_the_result_is_read_from_the_run_directory(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"routed": {"value": 0.75}}))
    assert job_return(["seed=2"], job(tmp_path), tmp_path, 0).return_value == 0.75
    (tmp_path / "metrics.json").write_text(json.dumps({"routed": {"value": 0.75, "macs_fraction": 0.5}}))
    both: Any = OmegaConf.merge(job(tmp_path), {"objective": ["metric", "cost"]})
    assert job_return(["seed=2"], both, tmp_path, 0).return_value == (0.75, 0.5)


def test_a_signal_reaches_the_command_and_then_ends_the_sweep(tmp_path: Path) -> None:
    """The command writes a file when it is told to end; the sweep waits for that."""
    code = f"""
import signal, sys, time, pathlib
def told(number, frame):
    time.sleep(0.2); pathlib.Path({str(tmp_path / "told")!r}).touch(); sys.exit(0)
signal.signal(signal.SIGTERM, told); pathlib.Path({str(tmp_path / "ready")!r}).touch(); time.sleep(60)
"""

    def tell() -> None:
        wait_for((tmp_path / "ready").exists, 20)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=tell).start()
    with pytest.raises(SystemExit) as left:
        run_command([sys.executable, "-c", code])
    assert left.value.code == 128 + signal.SIGTERM
    assert (tmp_path / "told").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_job_is_lost_only_for_submitit() -> None:
    lost = type("UncompletedJobError", (RuntimeError,), {"__module__": "submitit.core.utils"})
    assert is_lost_job(lost("no output"))
    assert not is_lost_job(RuntimeError("no output"))


@pytest.mark.parametrize("name", ["sharcs_launcher", "sharcs_sweeper"])
def test_a_plugin_costs_other_applications_nothing(name: str) -> None:
    code = f"import sys, hydra_plugins.{name}; print([x for x in sys.modules if x.startswith('sharcs_pl')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
