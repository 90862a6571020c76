"""A training run, from a checked config to a filled run directory."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sharcs_pl.config.command_line import FAILED
from sharcs_pl.core.errors import Diverged, Interrupted
from sharcs_pl.core.files import previous
from sharcs_pl.data.seen import save_seen
from sharcs_pl.inference.record import make_record
from sharcs_pl.launch.processes import broadcast_from_rank_zero, is_lost_peer, is_rank_zero
from sharcs_pl.pipeline.build import Run, build_run
from sharcs_pl.pipeline.console import display_path
from sharcs_pl.pipeline.results import finish, headline
from sharcs_pl.runs.directory import RunState, claim
from sharcs_pl.runs.files import LOCK, SEEN_TEXTS
from sharcs_pl.runs.inputs import find_checkpoint
from sharcs_pl.runs.lock import RunLock
from sharcs_pl.runs.preflight import Preflight
from sharcs_pl.training.interrupt import GracefulStop, tell


@dataclass(frozen=True)
class Composed:
    """The config as it was composed, stored under ``.hydra/``: the run's own keys, and Hydra's where Hydra made it.
    `resume` gives the command that goes on with the run."""

    run: DictConfig
    hydra: DictConfig | None = None
    resume: Callable[[], str] | None = None


def train(
    ready: Preflight,
    run_dir: Path,
    composed: Composed,
    build: Callable[..., Run] = build_run,
) -> dict[str, Any]:
    """Train, evaluate the best checkpoint, print the table and fill the run directory; return ``metrics.json``.

    ``build`` makes the objects of the run; it takes the arguments of ``build_run``.

    Raises:
        ValueError: before a model is loaded, for a folder that cannot serve.
        Diverged: for a loss, weights or answers that are not finite; nothing but earlier checkpoints is left then.
        Interrupted: for a signal, after ``last.ckpt`` was saved; ``GracefulStop`` has the details.
    """
    last, config = run_dir / "checkpoints" / "last.ckpt", ready.config
    with GracefulStop(last, ready.job) as stop, RunLock(run_dir / LOCK, ready.job) as lock, ends_told(last, composed):
        run = build(config, ready.inputs, run_dir, [stop])

        def take() -> list[str | None]:
            lock.take()
            return claim_directory(ready, run_dir, composed, run)

        # torchrun and srun give every process a directory of its own name: the first one's is the run's.
        directory, ckpt_path = broadcast_from_rank_zero(run.trainer, take)
        run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=ckpt_path)
        if stop.cut_short and is_rank_zero():
            where = f"in the middle of epoch {run.datamodule.history.num_epochs}"
            tell(f"a limit or a callback ended training {where}{how_to_go_on(last, composed)}\n")
        return finish(config, run, Path(directory) if run.trainer.world_size > 1 else run_dir)


def claim_directory(ready: Preflight, run_dir: Path, composed: Composed, run: Run) -> list[str | None]:
    """Make the directory this run's own, its lock held; return its absolute path and the checkpoint to go on from."""
    config = ready.config
    record = make_record(config, run.inputs.task)
    state = claim(config, run_dir, composed.run, composed.hydra, record, ready.job, ready.facts)
    if ready.seen is not None:
        save_seen(run_dir / SEEN_TEXTS, ready.seen)
    headline(config, run, ready.derived)
    resumes = state is RunState.RESUME
    # Looked for again where a run may have come to the directory since: its lock was not ours yet.
    decided = ready.decided and ready.resumes == resumes
    found = ready.inputs.checkpoint if decided else find_checkpoint(config, run_dir, resumes)
    return [str(run_dir.absolute()), None if found is None else str(found)]


@contextmanager
def ends_told(last: Path, composed: Composed) -> Iterator[None]:
    """Say how a run ended that did not finish, and what can be done; the exception goes on to the command."""
    try:
        yield
    except Interrupted as stopped:
        if is_rank_zero():
            tell(f"{outcome(stopped, last, composed)}\n")
        raise
    except Diverged as error:
        if not is_rank_zero():  # the first process has said it
            raise SystemExit(FAILED) from error
        raise Diverged(f"{error}; {after_divergence(last)}") from error
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        print(f"error: a process of the run ended early, its own error is above: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def outcome(stopped: Interrupted, last: Path, composed: Composed) -> str:
    """Return the message for a run that a signal ended."""
    what = "interrupted" if stopped.signal == signal.SIGINT else f"stopped by {stopped.signal.name}"
    return f"{what}, and requeued" if stopped.requeued else what + how_to_go_on(last, composed)


def how_to_go_on(last: Path, composed: Composed) -> str:
    """Return the command that resumes the run, where there is something to resume."""
    if composed.resume is None or not (last.exists() or previous(last).exists()):
        return ""
    return f"; to go on:\n{composed.resume()}"


def after_divergence(last: Path) -> str:
    """Return the advice for a diverged run. Another rate is another config, and no directory mixes two."""
    kept = next((path for path in (last, previous(last)) if path.exists()), None)
    if kept is None:
        return "no checkpoint was saved yet: overwrite=true begins again"
    return f"go on from the last good checkpoint with ckpt_path={display_path(kept)} hydra.run.dir=<another folder>"
