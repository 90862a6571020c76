"""Hydra's basic sweep, in which a bad job is named and the others run, with any launcher.

A Hydra plugin must lie in the namespace ``hydra_plugins``. It is chosen by ``conf/train.yaml`` and leaves other
applications alone. Hydra imports it for all of them, so the package is imported where it is needed. Hydra runs it
before the module is registered, so that a dataclass here may not postpone its annotations.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.sharcs_launcher import job_folder, job_value


@dataclass
class SharcsSweeperConf:
    """Hydra's ``basic`` sweeper, with its options unchanged."""

    _target_: str = "hydra_plugins.sharcs_sweeper.SharcsSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="sharcs", node=SharcsSweeperConf, provider="sharcs_pl")


class SharcsSweeper(BasicSweeper):
    """A sweeper that composes and checks all jobs before the first one starts; bad ones are named and left out."""

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        from sharcs_pl.config.command_line import BAD_INPUT

        assert self.config is not None
        assert self.launcher is not None
        jobs = self._jobs(arguments)
        faults = [self._fault(job) for job in jobs]
        for job, fault in zip(jobs, faults, strict=True):
            if fault:
                print(f"error: job {' '.join(job)}: {fault}", file=sys.stderr)
        good = [job for job, fault in zip(jobs, faults, strict=True) if not fault]
        if not good:
            raise SystemExit(BAD_INPUT)
        self._save_config()
        returns = self._launch(good)
        finish(returns, len(jobs) - len(good))
        return returns

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        return [job for batch in self.split_arguments(overrides, None) for job in batch]

    def _fault(self, job: Sequence[str]) -> str | None:
        """Return why a job cannot run, as far as its config tells, else None."""
        from sharcs_pl.config import RunConfig
        from sharcs_pl.config.errors import USER_ERRORS, explain
        from sharcs_pl.launch.cluster import check_tasks
        from sharcs_pl.runs.directory import run_config

        assert self.config is not None
        try:
            config = run_config(self._compose(job))
            check_tasks(self.config.hydra.launcher, config.trainer.devices, config.trainer.num_nodes)
        except USER_ERRORS as error:
            return explain(error, RunConfig)
        return None

    def _save_config(self) -> None:
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")

    def _launch(self, jobs: list[list[str]]) -> list[JobReturn]:
        from sharcs_pl.config.errors import shorten

        assert self.launcher is not None
        returns: list[JobReturn] = []
        for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
            try:
                returns += self.launcher.launch(batch, initial_job_idx=len(returns))
            except Exception as error:
                if not is_lost_job(error):
                    raise
                print(f"error: {shorten(str(error))}", file=sys.stderr)
                returns += [self._look(job, number) for number, job in enumerate(batch, len(returns))]
        return returns

    def _look(self, job: Sequence[str], number: int) -> JobReturn:
        """Return the result that a job left in its directory, where one lost job cost the launcher's results."""
        config = self._compose(job)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        folder = job_folder(config)
        done = JobReturn(overrides=list(job), status=JobStatus.COMPLETED)
        try:
            done.return_value = job_value(folder, config)
        except OSError:
            done.status = JobStatus.FAILED
            done.return_value = RuntimeError(f"no result; its log is under {folder.parent / '.submitit'}")
        return done

    def _compose(self, job: Sequence[str]) -> DictConfig:
        assert self.config is not None
        assert self.hydra_context is not None
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(job))


def is_lost_job(error: Exception) -> bool:
    """Return True if submitit says that a job was cancelled, killed or left no result; told by name, not imported."""
    return type(error).__module__.startswith("submitit.")


def finish(returns: Sequence[JobReturn], left_out: int) -> None:
    """Print the result of each job, one line each; exit with code 2 when a job was bad, 1 when one broke."""
    from sharcs_pl.config.command_line import BAD_INPUT
    from sharcs_pl.config.errors import is_user_error

    errors = [error for done in returns if (error := failure(done)) is not None]
    print(f"\n{len(returns) - len(errors)} of {len(returns) + left_out} jobs ended well", file=sys.stderr)
    for done in returns:
        print(f"  {' '.join(done.overrides or []) or 'defaults'}: {outcome(done)}", file=sys.stderr)
    if not all(map(is_user_error, errors)):
        raise SystemExit(1)
    if errors or left_out:
        raise SystemExit(BAD_INPUT)


def failure(done: JobReturn) -> Exception | None:
    """Return the exception a job ended with, if any."""
    value: Any = done._return_value if done.status is JobStatus.FAILED else None
    return value if isinstance(value, Exception) else None


def outcome(done: JobReturn) -> str:
    """Return a job's value or values, or what went wrong."""
    from sharcs_pl.config import RunConfig
    from sharcs_pl.config.errors import explain

    error = failure(done)
    if error is None:
        values = done.return_value if isinstance(done.return_value, tuple) else (done.return_value,)
        return ", ".join(f"{value:.4f}" for value in values)
    return f"error: {explain(error, RunConfig)}"
