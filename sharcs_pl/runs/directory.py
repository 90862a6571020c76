"""The run directory, and to which run it belongs: decided before anything in it is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from sharcs_pl.config import RunConfig, check_logger
from sharcs_pl.config.command_line import user_errors
from sharcs_pl.config.plain import run_from_plain
from sharcs_pl.core.files import write_text
from sharcs_pl.launch.cluster import check_started, check_sweep
from sharcs_pl.launch.processes import is_rank_zero, is_single_process
from sharcs_pl.launch.slurm import SlurmJob
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.locate import local_folder
from sharcs_pl.models.teachers import teacher_folder
from sharcs_pl.runs.files import LOCK, MARKER, check_no_collisions, check_no_strangers, clear, list_run, own_files
from sharcs_pl.runs.identity import Facts, config_differences, data_differences, listed
from sharcs_pl.runs.lock import check_free


class RunState(Enum):
    """The actions that a training run can take on its directory."""

    FRESH = "fresh"
    RESUME = "resume"
    REPLACE = "replace"


def run_config(cfg: DictConfig) -> RunConfig:
    """Return the checked dataclasses of a composed config. Raise an error naming a key or value that does not fit."""
    plain = cfg.copy()
    with open_dict(plain):
        plain.pop("hydra", None)
    # Merged into the schema once more, since +key=value on the command line slips past it.
    resolved: Any = OmegaConf.to_container(plain, resolve=True)
    return run_from_plain(resolved)


def decide(config: RunConfig, directory: Path, job: SlurmJob | None = None) -> RunState:
    """Decide what to do with ``directory``. Raise ``ValueError`` when it holds a run that this one may not touch, when
    another process trains there, or when it holds files of no run that this one would write over.

    A SLURM job that was requeued goes on with the run that it has begun there, whatever ``ckpt_path`` and ``overwrite``
    say, since they were meant for its first start.
    """
    if config.ckpt_path not in (None, "last") and not Path(config.ckpt_path).expanduser().is_file():
        raise ValueError(f"ckpt_path={config.ckpt_path} does not exist; give a checkpoint file, or ckpt_path=last")
    check_writable(directory)
    check_logger(config.logger.name)
    check_free(directory / LOCK, job)
    marker = directory / MARKER
    if not marker.exists():
        check_no_strangers(directory, config)
        return RunState.FRESH
    return _of_a_run(config, directory, read_json(marker), job)


def _of_a_run(config: RunConfig, directory: Path, marker: dict[str, Any], job: SlurmJob | None) -> RunState:
    differences = config_differences(marker, config)
    requeued = job is not None and bool(job.restarts) and marker.get("job") == job.id
    goes_on = differences == [] and (requeued or (config.ckpt_path == "last" and not config.overwrite))
    if config.overwrite and not goes_on:
        _check_kept(config, directory)
    if config.overwrite or goes_on:
        check_no_collisions(directory)
        return RunState.RESUME if goes_on else RunState.REPLACE
    if differences == []:
        raise ValueError(_holds(directory, "", "ckpt_path=last to go on with it"))
    raise _another(directory, "config", differences or [])


def _holds(directory: Path, what: str, hint: str) -> str:
    return f"{directory} holds a run{what}; add {hint}, or overwrite=true to replace it"


def _another(directory: Path, what: str, differences: list[str]) -> ValueError:
    told = f" ({listed(differences)})" if differences else ""
    return ValueError(_holds(directory, f" with another {what}", "hydra.run.dir=<another folder>") + told)


def check_same_data(directory: Path, facts: Facts) -> None:
    """Raise ``ValueError`` where the run there was begun with other texts, labels, encoder or teacher."""
    differences = data_differences(read_json(directory / MARKER).get("facts"), facts)
    if differences:
        raise _another(directory, "input", differences)


def _check_kept(config: RunConfig, directory: Path) -> None:
    """Raise ``ValueError`` where removing the old run would remove what the new one starts from."""
    task, removed = config.task, {path.resolve() for path in (*own_files(directory), directory / MARKER)}
    folders = {path.parent for path in removed}
    files = {"ckpt_path": config.ckpt_path, "task.train": task.train, "task.dev": task.dev, "task.test": task.test}
    for key, value in files.items():
        if isinstance(value, str) and value != "last" and Path(value).expanduser().resolve() in removed:
            raise _removes(key, value)
    encoder = local_folder(config.encoder.pretrained) if config.encoder.pretrained else None
    teacher, match = config.method.teacher, config.method.match
    if encoder is not None and encoder.resolve() in folders:
        raise _removes("encoder.pretrained", config.encoder.pretrained)
    if teacher is not None and teacher_folder(teacher).resolve() in folders:
        raise _removes("method.teacher", teacher)
    if match is not None and Path(match, "plan.csv").expanduser().resolve() in removed:
        raise _removes("method.match", match)


def _removes(key: str, value: Any) -> ValueError:
    return ValueError(f"{key}={value} lies in the run that overwrite=true removes; give another hydra.run.dir")


def check_writable(directory: Path, key: str = "hydra.run.dir") -> None:
    """Raise ``ValueError`` naming ``key`` unless the directory can be made or written into."""
    above = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"{key}={directory}: {above} is a file; give a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{key}={directory}: {above} may not be written to; give another folder")


def claim(
    config: RunConfig,
    directory: Path,
    cfg: DictConfig,
    hydra: DictConfig | None,
    record: dict[str, Any] | None = None,
    job: SlurmJob | None = None,
    facts: Facts | None = None,
) -> RunState:
    """Make the directory this run's own: clear a replaced run, write the marker and the rest of ``.hydra/``.

    ``record`` is the config for whoever evaluates the run; ``facts`` are fingerprints of what it reads. The caller must
    hold the lock where another process may use the directory.
    """
    state = decide(config, directory, job)
    if state is RunState.RESUME and facts is not None:
        check_same_data(directory, facts)
    if state is RunState.REPLACE:
        clear(directory)
    folder = directory / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    given = json.loads(json.dumps(asdict(config), default=str))
    marker = {"digest": config.digest(), "job": job.id if job else None, "config": record}
    write_text(directory / MARKER, json.dumps(marker | {"given": given, "facts": facts}, indent=2) + "\n")
    list_run(directory)
    OmegaConf.save(cfg, folder / "config.yaml")
    if hydra is not None:
        OmegaConf.save(hydra, folder / "hydra.yaml")
        OmegaConf.save(hydra.overrides.task, folder / "overrides.yaml")
    return state


def drop_empty(folders: Sequence[Path]) -> None:
    """Remove the folders made for a run that wrote nothing, the innermost first, up to one that holds something."""
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def missing_folders(directory: Path) -> list[Path]:
    """Return the directory and the folders above it that are not there yet, the innermost first."""
    return [folder for folder in (directory, *directory.absolute().parents) if not folder.exists()]


@dataclass(frozen=True)
class Checked:
    """A run that may start: its checked config, and the folders that Hydra makes for it."""

    config: RunConfig
    made: list[Path]


class CheckRun(Callback):
    """Hydra callback that refuses a bad config, or a directory that cannot be written to, before Hydra makes it."""

    _checked: ClassVar[Checked | None] = None

    @classmethod
    def taken(cls) -> Checked | None:
        """Return what was checked of this run, once; None in a job of a sweep, which no callback has checked."""
        found, cls._checked = cls._checked, None
        return found

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # the run directory's name may ask for hydra's own keys
        with user_errors(RunConfig):  # here, since Hydra turns a callback's exception into a warning
            checked = run_config(config)
            check_started(checked)
            if is_single_process():
                check_writable(Path(config.hydra.run.dir))
            if not is_rank_zero():  # the first process decides, and tells which directory; none of its own is made here
                with read_write(config.hydra.run):
                    config.hydra.run.dir = "."
            CheckRun._checked = Checked(checked, missing_folders(Path(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with user_errors(RunConfig):
            check_sweep(config)


def typed(hydra: DictConfig) -> list[str]:
    """Return the overrides as they were typed, with interpolations left unresolved."""
    found: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return found
