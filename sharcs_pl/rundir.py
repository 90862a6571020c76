"""The run directory: whose it is, decided before anything in it is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from sharcs_pl.cluster import check_started, check_sweep
from sharcs_pl.commandline import user_errors
from sharcs_pl.config import RunConfig, check_logger, conf_dir
from sharcs_pl.core.files import write_text
from sharcs_pl.core.slurm import SlurmJob, slurm_job
from sharcs_pl.launch import is_alone, is_main
from sharcs_pl.models.folder import read_json

MARKER = ".hydra/run.json"
CONTENTS = (
    ".hydra", "checkpoints", "model", "figures", "metrics.json", "metrics.csv", "curve.csv", "history.parquet",
    "plan.csv", "predictions.tsv", "evaluation", "submission", "tensorboard", "wandb", "mlruns",
)  # fmt: skip


class RunState(Enum):
    """What a training run does with its directory."""

    FRESH = "fresh"
    RESUME = "resume"
    REPLACE = "replace"


def run_config(cfg: DictConfig) -> RunConfig:
    """The checked dataclasses of a composed config; a key or value that does not fit raises an error naming it."""
    plain = cfg.copy()
    with open_dict(plain):
        plain.pop("hydra", None)
    # Merged into the schema once more, since +key=value on the command line slips past it.
    config = OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.to_container(plain, resolve=True))
    )
    assert isinstance(config, RunConfig)
    return config


def decide(config: RunConfig, directory: Path, job: SlurmJob | None = None) -> RunState:
    """What to do with ``directory``; ``ValueError`` when it holds a run that this one may not touch.

    A SLURM job that was requeued goes on with the run that it has begun there, whatever ``ckpt_path`` and ``overwrite``
    say: they were meant for its first start.
    """
    if config.ckpt_path not in (None, "last") and not Path(config.ckpt_path).expanduser().is_file():
        raise ValueError(f"ckpt_path={config.ckpt_path} does not exist; give a checkpoint file, or ckpt_path=last")
    check_writable(directory)
    check_logger(config.logger.name)
    marker = directory / MARKER
    if not marker.exists():
        return RunState.FRESH
    if job is not None and job.restarts and _begun_by(job, config, marker):
        return RunState.RESUME
    if config.overwrite:
        _check_kept(config, directory)
        return RunState.REPLACE
    same = read_json(marker).get("digest") == config.digest()
    if config.ckpt_path == "last" and same:
        return RunState.RESUME
    why = "" if same else " with another config"
    hint = "ckpt_path=last to go on with it" if same else "hydra.run.dir=<another folder>"
    raise ValueError(f"{directory} holds a run{why}; add {hint}, or overwrite=true to replace it")


def _begun_by(job: SlurmJob, config: RunConfig, marker: Path) -> bool:
    found = read_json(marker)
    return found.get("job") == job.id and found.get("digest") == config.digest()


def _check_kept(config: RunConfig, directory: Path) -> None:
    if config.ckpt_path in (None, "last"):
        return
    if Path(config.ckpt_path).expanduser().resolve().is_relative_to(directory.resolve()):
        raise ValueError(
            f"ckpt_path={config.ckpt_path} lies in the run that overwrite=true removes; give another hydra.run.dir"
        )


def check_writable(directory: Path) -> None:
    """``ValueError`` unless the directory can be made or written into."""
    above = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"hydra.run.dir={directory}: {above} is a file; give a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"hydra.run.dir={directory}: {above} may not be written to; give another folder")


def claim(
    config: RunConfig,
    directory: Path,
    cfg: DictConfig,
    hydra: DictConfig | None,
    record: dict[str, Any] | None = None,
    job: SlurmJob | None = None,
) -> RunState:
    """Make the directory this run's own: clear a replaced run, write ``.hydra/`` and the marker with the record."""
    state = decide(config, directory, job)
    if state is RunState.REPLACE:
        clear(directory)
    folder = directory / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    if hydra is not None:
        OmegaConf.save(hydra, folder / "hydra.yaml")
        OmegaConf.save(hydra.overrides.task, folder / "overrides.yaml")
    marker = {"digest": config.digest(), "job": job.id if job else None, "config": record}
    write_text(directory / MARKER, json.dumps(marker, indent=2) + "\n")
    return state


def clear(directory: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in CONTENTS:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def drop_empty(directory: Path) -> None:
    """Remove a directory that Hydra made for a run that wrote nothing, and empty ones above it up to here."""
    here = Path.cwd()
    for path in (directory, *directory.parents):
        if path == here or (not path.is_relative_to(here) and path != directory):
            return
        if not path.is_dir() or any(path.iterdir()):
            return
        path.rmdir()


class CheckRun(Callback):
    """Hydra callback: refuse a bad config or a taken run directory before Hydra makes a directory."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # the run directory's name may ask for hydra's own keys
        with user_errors(RunConfig):  # here, since Hydra turns a callback's exception into a warning
            check_recipe(config.hydra.overrides.task)
            checked = run_config(config)
            check_started(checked)
            if is_alone():
                decide(checked, Path(config.hydra.run.dir), slurm_job(os.environ))
            if not is_main():  # the first process decides, and tells which directory; none of its own is made here
                with read_write(config.hydra.run):
                    config.hydra.run.dir = "."

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with user_errors(RunConfig):
            check_sweep(config)


def check_recipe(overrides: Sequence[str]) -> None:
    """A recipe asked for by name must be there: Hydra leaves out an optional one that it does not find."""
    folders = [folder / "recipe" for folder in (conf_dir(), Path("conf"))]
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    for name in (text.removeprefix("recipe=") for text in overrides if text.startswith("recipe=")):
        if name not in known:
            raise ValueError(f"recipe={name} is unknown; choose one of: {', '.join(known)}")
