"""Hydra's basic launcher, for jobs of any number of processes.

Lightning starts the other processes of a run from the command line of the first. Within a sweep that command line is
the whole sweep, which every process would then run on its own. So a job of several processes is started here as a
command of its own, for that job alone. Jobs of one process run in this one, as Hydra's basic launcher does it.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from omegaconf import DictConfig, open_dict


@dataclass
class SharcsLauncherConf:
    """Hydra's ``basic`` launcher, which has no options."""

    _target_: str = "hydra_plugins.sharcs_launcher.SharcsLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="sharcs", node=SharcsLauncherConf, provider="sharcs_pl")

# Overrides of the sweep as a whole, which a single job must not repeat.
OF_THE_SWEEP = ("hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher", "hydra.mode", "hydra.run.")


class SharcsLauncher(BasicLauncher):
    """A launcher that runs jobs one after the other, each of several processes as a command of its own."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from sharcs_pl.launch.cluster import one_process
        from sharcs_pl.runs.directory import run_config

        jobs = [self._compose(words, number) for number, words in enumerate(job_overrides, initial_job_idx)]
        if all(one_process(run_config(job)) for job in jobs):
            return super().launch(job_overrides, initial_job_idx)
        assert self.config is not None
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return [self._run(job, list(words)) for job, words in zip(jobs, job_overrides, strict=True)]

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        assert self.config is not None
        assert self.hydra_context is not None
        setup_globals()
        job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        return job

    def _run(self, job: DictConfig, overrides: list[str]) -> JobReturn:
        folder = job_folder(job)
        print(f"\njob {job.hydra.job.num}: {' '.join(overrides)}", file=sys.stderr)
        code = run_command(command(job, overrides, folder))
        return job_return(overrides, job, folder, code)


def job_folder(job: DictConfig) -> Path:
    """Return the folder where Hydra's launchers put this job."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(job)  # the name may ask for hydra's own keys
    try:
        return Path(job.hydra.sweep.dir, str(job.hydra.sweep.subdir)).absolute()
    finally:
        HydraConfig.instance().cfg = before


def command(job: DictConfig, overrides: Sequence[str], folder: Path) -> list[str]:
    """Return the command line of this job alone, which Lightning may start again for its other processes."""
    name, sources = job.hydra.job.config_name, job.hydra.runtime.config_sources
    flags = ["--config-name", name] if name != "train" else []
    flags += [word for source in sources if source.provider == "command-line" for word in ("--config-dir", source.path)]
    own = [word for word in job.hydra.overrides.hydra if not word.lstrip("+~").startswith(OF_THE_SWEEP)]
    return [sys.executable, "-m", "sharcs_pl.train", *flags, *overrides, *own, f'hydra.run.dir="{folder}"']


def run_command(words: Sequence[str]) -> int:
    """Return the command's exit code. Raise ``SystemExit`` when this process was told to end, once it has ended."""
    with subprocess.Popen(words) as process, passed_on(process) as told:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # the terminal has told the command too
                told.append(signal.SIGINT)
    if told:
        raise SystemExit(128 + told[0])
    return code


@contextmanager
def passed_on(process: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Pass SIGTERM and the signals of a cluster on to the process; the list holds the signals that came."""
    told: list[int] = []

    def handle(number: int, frame: Any) -> None:
        told.append(number)
        process.send_signal(number)

    numbers = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def job_return(overrides: list[str], job: DictConfig, folder: Path, code: int) -> JobReturn:
    """Return what Hydra's sweepers read: what ``objective`` names of ``metrics.json``, or an error."""
    done = JobReturn(overrides=overrides, cfg=job, working_dir=str(Path.cwd()))
    done.status = JobStatus.COMPLETED if code == 0 else JobStatus.FAILED
    if code == 0:
        done.return_value = job_value(folder, job)
    elif code == 2:
        done.return_value = ValueError("refused; its own message is above")
    else:
        done.return_value = RuntimeError(f"ended with exit code {code}; its messages are above")
    return done


def job_value(folder: Path, job: DictConfig) -> float | tuple[float, ...]:
    """Return the result of the run in this directory, as the job's ``objective`` asks for it."""
    from sharcs_pl.core.objective import objective_value

    return objective_value(json.loads((folder / "metrics.json").read_text(encoding="utf-8")), job.objective)
