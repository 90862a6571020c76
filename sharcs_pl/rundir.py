"""The run directory: whose it is, decided before anything in it is touched."""

from __future__ import annotations

import json
import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from sharcs_pl.config import RunConfig

MARKER = ".hydra/run.json"
CONTENTS = (
    ".hydra", "checkpoints", "model", "figures", "metrics.json", "metrics.csv", "history.parquet", "plan.csv",
    "predictions.tsv", "tensorboard", "wandb",
)  # fmt: skip


class RunState(Enum):
    """What a training run does with its directory."""

    FRESH = "fresh"
    RESUME = "resume"
    REPLACE = "replace"


def run_config(cfg: DictConfig) -> RunConfig:
    """The checked dataclasses of a composed config; a value that does not fit raises ``ValueError``."""
    plain = cfg.copy()
    with open_dict(plain):
        plain.pop("hydra", None)
    config = OmegaConf.to_object(plain)
    assert isinstance(config, RunConfig)
    return config


def decide(config: RunConfig, directory: Path) -> RunState:
    """What to do with ``directory``; ``ValueError`` when it holds a run that this one may not touch."""
    if config.ckpt_path not in (None, "last") and not Path(config.ckpt_path).is_file():
        raise ValueError(f"ckpt_path={config.ckpt_path} does not exist; give a checkpoint file, or ckpt_path=last")
    marker = directory / MARKER
    if not marker.exists():
        return RunState.FRESH
    if config.overwrite:
        return RunState.REPLACE
    same = json.loads(marker.read_text())["digest"] == config.digest()
    if config.ckpt_path == "last" and same:
        return RunState.RESUME
    why = "" if same else " with another config"
    hint = "ckpt_path=last to go on with it" if same else "hydra.run.dir=<another folder>"
    raise ValueError(f"{directory} holds a run{why}; add {hint}, or overwrite=true to replace it")


def claim(config: RunConfig, directory: Path, cfg: DictConfig, hydra: DictConfig | None) -> RunState:
    """Make the directory this run's own: clear a replaced run, write ``.hydra/`` and the marker."""
    state = decide(config, directory)
    if state is RunState.REPLACE:
        clear(directory)
    folder = directory / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    if hydra is not None:
        OmegaConf.save(hydra, folder / "hydra.yaml")
        OmegaConf.save(hydra.overrides.task, folder / "overrides.yaml")
    (directory / MARKER).write_text(json.dumps({"digest": config.digest()}) + "\n")
    return state


def clear(directory: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in CONTENTS:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class CheckRun(Callback):
    """Hydra callback: refuse a bad config or a taken run directory before Hydra makes a directory."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # the run directory's name may ask for hydra's own keys
        try:
            decide(run_config(config), Path(config.hydra.run.dir))
        except ValueError as error:
            fail(error)


def fail(error: Exception) -> None:
    """One line on stderr and exit code 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)
