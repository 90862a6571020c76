"""Train a routed encoder: ``python -m sharcs_pl.train task=mrpc encoder=minilm task.data_dir=glue/MRPC``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.rundir import RunState, claim, decide, fail, run_config

ConfigStore.instance().store(name="run_schema", node=RunConfig)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def main(cfg: DictConfig) -> float:
    """Hydra's entry; returns the routed metric, so that a sweeper can optimise it."""
    hydra_cfg = DictConfig(HydraConfig.get())
    try:
        metrics = train(run_config(cfg), Path(hydra_cfg.runtime.output_dir), cfg, hydra_cfg)
    except ValueError as error:
        fail(error)
        raise
    return metrics["routed"]["value"]


def train(config: RunConfig, run_dir: Path, cfg: DictConfig, hydra_cfg: DictConfig | None = None) -> dict[str, Any]:
    """Train, evaluate the best checkpoint, print the table and fill the run directory; returns ``metrics.json``.

    Args:
        config: the checked config.
        run_dir: where everything goes.
        cfg: the same config as composed, stored under ``.hydra/``.
        hydra_cfg: Hydra's own config, stored beside it.
    """
    decide(config, run_dir)
    quiet()
    from sharcs_pl.build import build_run
    from sharcs_pl.results import finish, headline

    run = build_run(config, run_dir)
    state = claim(config, run_dir, cfg, hydra_cfg)
    headline(config, run)
    run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=checkpoint(config, run_dir, state))
    return finish(config, run, run_dir)


def checkpoint(config: RunConfig, run_dir: Path, state: RunState) -> Path | None:
    """The checkpoint to go on from: the run's own last one if it has got that far, or the one named."""
    if config.ckpt_path is None:
        return None
    if config.ckpt_path != "last":
        return Path(config.ckpt_path)
    last = run_dir / "checkpoints" / "last.ckpt"
    return last if state is RunState.RESUME and last.exists() else None


def quiet() -> None:
    """Keep off the screen what a user cannot act on: greetings, tips and shard counters of the libraries."""
    import logging

    import lightning  # noqa: F401  (sets the level of its logger when imported)
    from transformers.utils.logging import disable_progress_bar

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\..*")
    disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if __name__ == "__main__":
    sys.exit(main())
