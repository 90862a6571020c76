"""Ctrl-C ends a run at a step's end, with a checkpoint from which it goes on exactly."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class Interrupted(BaseException):
    """The user stopped the run. Not a KeyboardInterrupt, which Lightning answers by leaving the process."""


class GracefulStop(Checkpoint):
    """Within ``with``, the first Ctrl-C in training saves ``path`` at the next step's end and raises ``Interrupted``.

    In the last step of an epoch it waits for validation and the epoch's own files. A second Ctrl-C, or one outside
    training, raises at once. Among the callbacks it stands with the checkpoints: after the history is closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = False
        self.training = False
        self._previous: Any = None

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.training:
            raise Interrupted
        self.asked = True
        print("\nstopping at the end of this step; Ctrl-C again to stop at once", file=sys.stderr)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.training = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.training = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        # Every rank gets the signal, but perhaps not in the same step.
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.save_checkpoint(self.path)
            raise Interrupted
