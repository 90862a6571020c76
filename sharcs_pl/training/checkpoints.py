"""Checkpoints, the last and the best, written beside their place and renamed, and saved by all processes together."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from sharcs_pl.core.files import atomic_file, previous, sync_folder
from sharcs_pl.models.folder import check_zip

LAST = "last.ckpt"
BEST = "best.ckpt"
_FAILED = 2  # the exit code of the processes that do not write, when the one that does cannot


class DurableCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are written beside their place, forced to the disk and renamed. The ``last.ckpt`` before is
    kept as ``last.prev.ckpt``, so that at any moment one of the two is whole.

    A full disk, or any other ``OSError``, is reported with the checkpoint's name; the older ones stay, and no part of
    the new one is left. A damaged file raises ``ValueError`` when it is loaded.
    """

    def __init__(self) -> None:
        self._last_is_whole = True

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        for stale in path.parent.glob("*.ckpt.part"):
            stale.unlink()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(checkpoint, path)
        except (OSError, RuntimeError) as error:
            raise explain_failure(path, error) from error

    def _write(self, checkpoint: dict[str, Any], path: Path) -> None:
        with atomic_file(path) as part:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists() and self._last_is_whole:
                os.replace(path, previous(path))
        self._last_is_whole |= path.name == LAST
        sync_folder(path.parent)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        check_zip(Path(path), "go on from another checkpoint")
        # Whoever goes on from the one before has a damaged last one, which must not take its place.
        self._last_is_whole = Path(path).name != previous(Path(LAST)).name
        return super().load_checkpoint(path, *args, **kwargs)


def explain_failure(path: Path, error: OSError | RuntimeError) -> Exception:
    """Return the error to raise when ``path`` could not be written; any but the system's come back unchanged."""
    # torch raises an error of its own while it handles the system's.
    cause = error if isinstance(error, OSError) else error.__context__
    if not isinstance(cause, OSError):
        return error
    kept = "the last good one is kept, and ckpt_path=last goes on from it"
    reason = f"the checkpoint cannot be saved: {cause.strerror}; {kept}"
    return OSError(cause.errno, reason, str(path))


def save_together(trainer: L.Trainer, path: Path) -> None:
    """Save a checkpoint, called by all processes; where the first cannot write it, all of them stop.

    Raises:
        OSError: in the first process, which alone writes.
        SystemExit: in the others.
    """
    failure: OSError | None = None
    try:
        trainer.save_checkpoint(path, weights_only=False)
    except OSError as error:
        failure = error
        trainer.strategy.barrier("Trainer.save_checkpoint")  # where the others wait
    if trainer.strategy.reduce_boolean_decision(failure is not None, all=False):
        raise failure or SystemExit(_FAILED)


def can_go_on(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return True if a run can go on exactly from a checkpoint at this batch's end.

    It cannot between accumulated batches, whose gradients the checkpoint lacks. Nor can it at an epoch's last step,
    which Lightning takes for a finished epoch: validation and the closing of the history would be left out.
    """
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch


def epoch_is_whole(trainer: L.Trainer) -> bool:
    """Return True if the epoch that ends had all its steps. One that ``max_steps``, ``max_time`` or a callback ends in
    its middle goes on when the run is resumed: nothing of it is closed, ranked or saved as an epoch's end."""
    return trainer.is_last_batch


class LastCheckpoint(Checkpoint):
    """Callback that keeps ``last.ckpt``, saved every n-th epoch's end and, if asked, every so many steps or minutes.

    A save that falls due at an epoch's last step is made at the epoch's end. Among the callbacks this one stands behind
    the history and ``BestCheckpoint``, whose state it saves.

    Attributes: saved_now: whether it saved in the hook that is under way.
    """

    def __init__(
        self,
        folder: Path,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        every_n_minutes: float | None = None,
    ) -> None:
        self.path = folder / LAST
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.saved_now = False
        self._due = False
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.saved_now = False
        possible = can_go_on(trainer, batch_idx)
        if possible or trainer.is_last_batch:
            self._due = self._due or self._falls_due(trainer)
        if possible and self._due:
            self._save(trainer)

    def _falls_due(self, trainer: L.Trainer) -> bool:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            return True
        if self.seconds is None:
            return False
        # Clocks differ: the processes must agree.
        waited = time.monotonic() - self._saved_at >= self.seconds
        return bool(trainer.strategy.reduce_boolean_decision(waited, all=False))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_now = False
        if not epoch_is_whole(trainer):
            return
        if self._due or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        save_together(trainer, self.path)
        self._saved_at = time.monotonic()
        self._due, self.saved_now = False, True


class BestCheckpoint(Checkpoint):
    """Callback that keeps ``best.ckpt`` by ``monitor``, from ``first_epoch`` on; before it nothing is routed.

    With ``max_macs_fraction`` only epochs count whose routing costs at most that fraction of dense. The earliest of
    equally good epochs is kept. With ``patience`` training ends after so many epochs that count and are no better.
    """

    def __init__(
        self,
        folder: Path,
        first_epoch: int,
        max_macs_fraction: float | None = None,
        monitor: str = "val/routed",
        patience: int | None = None,
    ) -> None:
        self.path = folder / BEST
        self.first_epoch = first_epoch
        self.max_macs_fraction = max_macs_fraction
        self.monitor = monitor
        self.patience = patience
        self.score: float | None = None
        self.waited = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # In another folder than the checkpoint's, or after its removal, the best so far is not there to be evaluated.
        if not trainer.strategy.broadcast(self.path.exists()):
            self.score = None
        trainer.should_stop = trainer.should_stop or self._waited_enough

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        found = trainer.callback_metrics.get(self.monitor)
        counts = epoch_is_whole(trainer) and trainer.current_epoch >= self.first_epoch
        if found is None or not counts or not self._affordable(trainer):
            return
        score = -math.inf if math.isnan(found) else float(found)
        better = trainer.strategy.reduce_boolean_decision(self.score is None or score > self.score)
        self.waited = 0 if better else self.waited + 1
        if better:
            self.score = score
            save_together(trainer, self.path)
        trainer.should_stop = trainer.should_stop or self._waited_enough

    def _affordable(self, trainer: L.Trainer) -> bool:
        limit = self.max_macs_fraction
        return limit is None or float(trainer.callback_metrics["val/macs_fraction"]) <= limit

    @property
    def _waited_enough(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "waited": self.waited, "monitor": self.monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("monitor", "val/routed") == self.monitor:  # scores of another kind tell nothing
            self.score, self.waited = state_dict["score"], state_dict.get("waited", 0)
