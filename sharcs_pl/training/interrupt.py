"""Signals that end a run at a step's end, with a checkpoint to go on from exactly; under SLURM it is requeued."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only

from sharcs_pl.core.errors import Interrupted
from sharcs_pl.launch.slurm import SlurmJob
from sharcs_pl.training.checkpoints import LastCheckpoint, can_go_on, save_together

REQUEUEING = (signal.SIGUSR1, signal.SIGUSR2)
# Of several signals, the one later in this row counts.
SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, *REQUEUEING)
_SECONDS = 60.0  # for scontrol to answer


_BY_NOHUP = (signal.SIGHUP, signal.SIG_IGN)


class GracefulStop(Checkpoint):
    """Callback and context in which signals end a run so that it can go on.

    ``path`` is the checkpoint that is written; ``job`` the SLURM job, if the run is one.

    In training a signal sets a flag. At the end of the step (of the epoch, after validation, in its last step) the
    processes compare flags, save one checkpoint together and raise ``Interrupted``, with the exit code 128 + signal. So
    a process that lags behind, or that got no signal, takes part.

    - SIGINT, Ctrl-C: a second one raises at once, wherever it finds the run.
    - SIGHUP, a terminal that is gone: as SIGTERM; what ignored it before, such as ``nohup``, has it ignored.
    - SIGTERM: never requeues, since ``scancel`` sends it too; ``scontrol requeue`` and preemption, which also send it,
      start the job again by themselves.
    - SIGUSR1 and SIGUSR2: the first process then calls the handler that it found, such as submitit's, which requeues,
      or has SLURM requeue the job. All wait for it: a process that left early might take the first one with it.

    ``max_steps``, ``max_time`` and callbacks that set ``trainer.should_stop`` in an epoch's middle end training so that
    it can go on as well: the checkpoint is saved there, and the half epoch stays open. ``cut_short`` tells so.

    Outside training (before the first step, in the final evaluation) there is nothing to save: a signal raises at once,
    SIGUSR1 and SIGUSR2 after requeueing. Among the callbacks it stands last.
    """

    def __init__(self, path: Path, job: SlurmJob | None = None) -> None:
        self.path = path
        self.job = job
        self.asked = 0  # place in SIGNALS, from 1
        self.training = False
        self.leaving = False
        self.cut_short = False
        self._stops_soon = False
        self._found: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in SIGNALS}
            self._found = {n: handler for n, handler in found.items() if (n, handler) != _BY_NOHUP}
            self._install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._found.items():
            signal.signal(number, handler)
        self._found = {}

    def _install(self) -> None:
        for number in self._found or ():
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        insists = number == signal.SIGINT and (self.asked or self.leaving)
        if insists or not (self.training or self.leaving):
            self._leave_at_once(number)
        if not self.leaving:
            self.asked = max(self.asked, SIGNALS.index(number) + 1)
            again = "; Ctrl-C again to stop at once" if number == signal.SIGINT else ""
            tell(f"\n{signal.Signals(number).name}: stopping at the end of this step{again}\n")

    def _leave_at_once(self, number: int) -> None:
        self.leaving = True
        if rank_zero_only.rank == 0:
            self._hand_on(number)
        raise Interrupted(number)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._install()  # over Lightning's own for SIGTERM, which has processes wait for each other inside the handler
        self.training = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._install()  # for the final evaluation

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.training = False
        self._stop_if_asked(trainer, save=False)  # it came after the last epoch's checkpoint

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._stops_soon |= trainer.should_stop and may_stop(trainer)
        if not can_go_on(trainer, batch_idx):
            # Where gradients are being accumulated, Lightning would end and lose them.
            trainer.should_stop &= trainer.is_last_batch
        elif trainer.strategy.reduce_boolean_decision(self.asked > 0 or self._stops_soon, all=False):
            self._stop_if_asked(trainer)
            trainer.should_stop = True  # also where it was put off, and on every process
            self._save_in_mid_epoch(trainer)
        elif 0 <= trainer.max_steps <= trainer.global_step:
            self._save_in_mid_epoch(trainer)

    def _save_in_mid_epoch(self, trainer: L.Trainer) -> None:
        """Save a checkpoint where Lightning ends training after this step, in mid-epoch."""
        self.cut_short = True
        if not saved_now(trainer):
            save_together(trainer, self.path)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: L.Trainer, save: bool = True) -> None:
        number = self._agreed(trainer)
        if number is None:
            return
        if save and not saved_now(trainer):
            save_together(trainer, self.path)
        self.leaving = True  # what else SLURM sends meanwhile, and requeueing sends SIGTERM, must not cut this short
        try:
            if trainer.is_global_zero:
                self._hand_on(number)
        finally:
            trainer.strategy.barrier("requeued")
        raise Interrupted(number)

    def _agreed(self, trainer: L.Trainer) -> signal.Signals | None:
        """Return the strongest signal that any process has got."""
        if not trainer.strategy.reduce_boolean_decision(self.asked > 0, all=False):
            return None
        asked = [trainer.strategy.reduce_boolean_decision(self.asked == i + 1, all=False) for i in range(len(SIGNALS))]
        return [number for number, any_asked in zip(SIGNALS, asked, strict=True) if any_asked][-1]

    def _hand_on(self, number: int) -> None:
        """Have the job requeued by the first process, where this signal asks for it and somebody can."""
        if number not in REQUEUEING:
            return
        found = self._found.get(number)
        if callable(found):
            try:
                found(number, None)
            except SystemExit as done:  # submitit's, after it has requeued; the code may tell its launcher so
                raise Interrupted(number, done.code if isinstance(done.code, int) else None, requeued=True) from None
        elif self.job is not None and requeue(self.job):
            raise Interrupted(number, requeued=True)


def may_stop(trainer: L.Trainer) -> bool:
    """Return True if Lightning follows ``should_stop`` in the middle of this epoch."""
    epochs, steps = trainer.min_epochs or 0, trainer.min_steps or 0
    return trainer.current_epoch >= epochs and trainer.global_step >= steps


def saved_now(trainer: L.Trainer) -> bool:
    """Return True if ``last.ckpt`` holds the present step."""
    callbacks = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return any(isinstance(callback, LastCheckpoint) and callback.saved_now for callback in callbacks)


def requeue(job: SlurmJob) -> bool:
    """Ask SLURM to start the job again; return False, with a line on stderr, when it does not."""
    command = ["scontrol", "requeue", job.id]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        fault = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    if fault:
        print(f"warning: job {job.id} is not requeued: {fault}", file=sys.stderr)
    return fault is None


def leave_terminal() -> None:
    """Discard further output where it would go to a terminal, which is gone: writing to it is an error that would end
    the run before it has saved."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(_is_terminal, (1, 2)):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _is_terminal(stream: int) -> bool:
    """Return True if the stream is a terminal, or was one: isatty denies a terminal that is gone."""
    try:
        os.ttyname(stream)
    except OSError as error:
        return error.errno not in (errno.ENOTTY, errno.EBADF)
    return True


@rank_zero_only
def tell(text: str) -> None:
    """Write to stderr from a signal handler, without print, which may be what the signal interrupted."""
    with suppress(OSError):
        os.write(2, text.encode())
