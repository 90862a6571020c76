"""Train a routed encoder: ``python -m sharcs_pl.train task=mrpc encoder=minilm task.data_dir=glue/MRPC``."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig

from sharcs_pl.cluster import check_started, join_submitit, readable_elsewhere
from sharcs_pl.commandline import FAILED, hydra_raises, user_errors
from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.config.overrides import quote_texts
from sharcs_pl.core.files import previous, write_text
from sharcs_pl.core.finite import Diverged
from sharcs_pl.core.lock import RunLock
from sharcs_pl.core.slurm import slurm_job
from sharcs_pl.data.own import save_task
from sharcs_pl.data.seen import save_seen
from sharcs_pl.data.spec import DataWarning
from sharcs_pl.identity import read_facts
from sharcs_pl.inputs import find_checkpoint, read_inputs
from sharcs_pl.launch import decided_by_main, is_alone, is_lost_peer, is_main
from sharcs_pl.record import make_record
from sharcs_pl.rundir import RunState, check_same_data, claim, decide, drop_empty, run_config, typed
from sharcs_pl.runfiles import LOCK, SEEN_TEXTS

if TYPE_CHECKING:
    from sharcs_pl.build import Run
    from sharcs_pl.training.interrupt import Interrupted

ConfigStore.instance().store(name="run_schema", node=RunConfig)


class OwnConf(SearchPathPlugin):
    """Finds yamls of the user's own, such as ``conf/task/tickets.yaml``, in the folder the command is run in."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        folder = Path("conf").absolute()
        if folder.is_dir() and folder != conf_dir():
            search_path.append("own", f"file://{folder}")


def main() -> None:
    """The command: one line and exit code 2 for a mistake, 128 + signal for a signal."""
    Plugins.instance().register(OwnConf)
    sys.argv[1:] = quote_texts(sys.argv[1:], RunConfig)  # before Hydra reads them, and Lightning hands them on
    with user_errors(RunConfig), hydra_raises():
        if not is_main():  # what the data is like is said once
            warnings.simplefilter("ignore", DataWarning)
        run_job()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def run_job(cfg: DictConfig) -> float:
    """Hydra's entry, also of each job of a sweep; returns the routed metric, so that a sweeper can optimise it."""
    hydra_cfg = DictConfig(HydraConfig.get())
    run_dir = Path(hydra_cfg.runtime.output_dir)
    # A sweep collects the exceptions of its jobs and goes on; alone, the process ends here.
    sweeping = hydra_cfg.mode == RunMode.MULTIRUN
    join_submitit()
    try:
        with readable_elsewhere() if sweeping else user_errors(RunConfig):
            config = run_config(cfg)
            check_started(config, sweeping)
            return train(config, run_dir, cfg, hydra_cfg)["routed"]["value"]
    finally:
        drop_empty(run_dir)


def train(
    config: RunConfig,
    run_dir: Path,
    cfg: DictConfig,
    hydra_cfg: DictConfig | None = None,
    build: Callable[..., Run] | None = None,
) -> dict[str, Any]:
    """Train, evaluate the best checkpoint, print the table and fill the run directory; returns ``metrics.json``.

    Args:
        config: the checked config.
        run_dir: where everything goes.
        cfg: the same config as composed, stored under ``.hydra/``.
        hydra_cfg: Hydra's own config, stored beside it.
        build: in place of ``build_run``, with its arguments.

    Raises:
        ValueError: before a model is loaded, for data, an encoder or a folder that cannot serve.
        Diverged: for a loss, weights or answers that are not finite; nothing but earlier checkpoints is left then.
        SystemExit: 128 + signal when one came, after ``last.ckpt`` was saved; ``GracefulStop`` has the details.
    """
    job, alone = slurm_job(os.environ), is_alone()
    resumes = alone and decide(config, run_dir, job) is RunState.RESUME
    inputs = read_inputs(config, run_dir, resumes)
    facts, seen = read_facts(config, inputs) if is_main() else (None, None)
    if resumes and facts is not None:
        check_same_data(run_dir, facts)
    if config.task.save_as and is_main():
        keep_task(config, Path("conf"))
    quiet()
    from sharcs_pl.build import build_run
    from sharcs_pl.results import finish, headline
    from sharcs_pl.training.interrupt import GracefulStop, Interrupted, tell

    last = run_dir / "checkpoints" / "last.ckpt"

    def start() -> list[str | None]:
        lock.take()
        state = claim(config, run_dir, cfg, hydra_cfg, make_record(config, run.inputs.task), job, facts)
        if seen is not None:
            save_seen(run_dir / SEEN_TEXTS, seen)
        headline(config, run)
        # Looked for again where a run may have come to the directory since: its lock was not ours yet.
        decided = alone and resumes == (state is RunState.RESUME)
        found = inputs.checkpoint if decided else find_checkpoint(config, run_dir, state is RunState.RESUME)
        return [str(run_dir.absolute()), None if found is None else str(found)]

    with GracefulStop(last, job) as stop, RunLock(run_dir / LOCK, job) as lock:
        try:
            run = (build or build_run)(config, inputs, run_dir, [stop])
            # torchrun and srun give every process a directory of its own name: the first one's is the run's.
            directory, ckpt_path = decided_by_main(run.trainer, start)
            run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=ckpt_path)
            if stop.cut_short and is_main():
                where = f"in the middle of epoch {run.datamodule.history.num_epochs}"
                tell(f"a limit or a callback ended training {where}{how_to_go_on(last, hydra_cfg)}\n")
            return finish(config, run, Path(directory) if run.trainer.world_size > 1 else run_dir)
        except Interrupted as stopped:
            if is_main():
                tell(f"{outcome(stopped, last, hydra_cfg)}\n")
            raise SystemExit(stopped.code) from None
        except Diverged as error:
            if not is_main():  # the first process has said it
                raise SystemExit(FAILED) from error
            raise Diverged(f"{error}; {after_divergence(last)}") from error
        except RuntimeError as error:
            if not is_lost_peer(error):
                raise
            print(f"error: a process of the run ended early, its own error is above: {error}", file=sys.stderr)
            raise SystemExit(1) from None


def keep_task(config: RunConfig, folder: Path) -> None:
    """Write own data's keys as a task of its own name, with the recipes that ``task=own`` has."""
    name = str(config.task.save_as)
    saved = save_task(vars(config.task), name, folder)
    for recipe in (conf_dir() / "recipe").glob("own_*.yaml"):
        path = folder / "recipe" / recipe.name.replace("own_", f"{name}_", 1)
        path.parent.mkdir(exist_ok=True)
        write_text(path, f"# @package _global_\ndefaults:\n  - {recipe.stem}\n")
    print(f"{saved} is written; from now on task={name} is enough", file=sys.stderr)


def outcome(stopped: Interrupted, last: Path, hydra_cfg: DictConfig | None) -> str:
    """What is said of a run that a signal ended."""
    what = "interrupted" if stopped.signal == signal.SIGINT else f"stopped by {stopped.signal.name}"
    return f"{what}, and requeued" if stopped.requeued else what + how_to_go_on(last, hydra_cfg)


def how_to_go_on(last: Path, hydra_cfg: DictConfig | None) -> str:
    """The command that resumes the run, where there is something to resume."""
    if not (last.exists() or previous(last).exists()) or hydra_cfg is None:
        return ""
    overrides = [o for o in typed(hydra_cfg) if not o.startswith(("ckpt_path=", "overwrite="))]
    words = [*overrides, f"hydra.run.dir={shown(last.parent.parent)}", "ckpt_path=last"]
    return f"; to go on:\npython -m sharcs_pl.train {shlex.join(words)}"


def after_divergence(last: Path) -> str:
    """What can be done about a run that has diverged; another rate is another config, and no directory mixes two."""
    kept = next((path for path in (last, previous(last)) if path.exists()), None)
    if kept is None:
        return "no checkpoint was saved yet: overwrite=true begins again"
    return f"go on from the last good checkpoint with ckpt_path={shown(kept)} hydra.run.dir=<another folder>"


def shown(path: Path) -> str:
    """The path as a user would write it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def quiet() -> None:
    """Keep off the screen what a user cannot act on: greetings, tips and shard counters of the libraries."""
    import logging

    import lightning  # noqa: F401  (sets the level of its logger when imported)
    from transformers.utils.logging import disable_progress_bar

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)\..*")
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # Lightning's, on any login node
    disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if __name__ == "__main__":
    main()
