"""Train a routed encoder: ``python -m sharcs_pl.train task=mrpc encoder=minilm task.data_dir=glue/MRPC``."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.config.command_line import hydra_raises, user_errors
from sharcs_pl.config.compose import OwnConf
from sharcs_pl.config.overrides import quote_texts
from sharcs_pl.core.errors import DataWarning, Interrupted
from sharcs_pl.core.objective import objective_value
from sharcs_pl.launch.cluster import check_started, join_submitit, picklable_errors
from sharcs_pl.launch.processes import is_rank_zero
from sharcs_pl.pipeline.console import display_path, silence_libraries
from sharcs_pl.runs.directory import CheckRun, drop_empty, run_config, typed
from sharcs_pl.runs.preflight import preflight

ConfigStore.instance().store(name="run_schema", node=RunConfig)


def main() -> None:
    """Run the command. The exit code is 2 for a mistake (one line on stderr) and 128 + signal for a signal."""
    Plugins.instance().register(OwnConf)
    sys.argv[1:] = quote_texts(sys.argv[1:], RunConfig)  # before Hydra reads them, and Lightning hands them on
    with user_errors(RunConfig), hydra_raises():
        if not is_rank_zero():  # what the data is like is said once
            warnings.simplefilter("ignore", DataWarning)
        run_job()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def run_job(cfg: DictConfig) -> float | tuple[float, ...]:
    """Run one job, alone or in a sweep; return what ``objective`` names, so that a sweeper can optimise it."""
    hydra_cfg = DictConfig(HydraConfig.get())
    run_dir = Path(hydra_cfg.runtime.output_dir)
    # A sweep collects the exceptions of its jobs and goes on; alone, the process ends here.
    sweeping = hydra_cfg.mode == RunMode.MULTIRUN
    join_submitit()
    checked = CheckRun.taken()
    try:
        with picklable_errors() if sweeping else user_errors(RunConfig):
            config = run_config(cfg) if checked is None else checked.config
            if checked is None:  # a job of a sweep
                check_started(config, sweeping)
            ready = preflight(config, run_dir)
            silence_libraries()
            from sharcs_pl.pipeline.fit import Composed, train

            composed = Composed(cfg, hydra_cfg, lambda: resume_command(hydra_cfg, run_dir))
            return objective_value(train(ready, run_dir, composed), config.objective)
    except Interrupted as stopped:
        raise SystemExit(stopped.code) from None
    finally:
        drop_empty([run_dir] if checked is None else checked.made)


def resume_command(hydra_cfg: DictConfig, run_dir: Path) -> str:
    """Return the command that goes on with the run."""
    overrides = [o for o in typed(hydra_cfg) if not o.startswith(("ckpt_path=", "overwrite="))]
    words = [*overrides, f"hydra.run.dir={display_path(run_dir)}", "ckpt_path=last"]
    return f"python -m sharcs_pl.train {shlex.join(words)}"


if __name__ == "__main__":
    main()
