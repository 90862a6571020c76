"""Two processes: one gets a signal, the other is slower. Called as ``python -m tests.training.unequal FOLDER SIGNAL``.

A plain model, so that nothing but the callbacks is at work. Each process writes down its last step and its exit code.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from sharcs_pl.core.errors import Interrupted
from sharcs_pl.training.checkpoints import DurableCheckpointIO, LastCheckpoint
from sharcs_pl.training.interrupt import GracefulStop


class Unequal(L.Callback):
    """The first process is slow, the second one gets the signal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.is_global_zero:
            time.sleep(0.05)
        elif trainer.global_step == 5:
            os.kill(os.getpid(), self.number)


def main(folder: Path, number: int) -> None:
    torch.set_num_threads(1)
    with GracefulStop(folder / "last.ckpt") as stop:
        trainer = L.Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[Unequal(number), LastCheckpoint(folder, every_n_minutes=0.001), stop],
            plugins=[DurableCheckpointIO()],
        )
        try:
            trainer.fit(BoringModel())
        except Interrupted as stopped:
            (folder / f"rank{trainer.global_rank}").write_text(f"{trainer.global_step} {stopped.code}")
            raise SystemExit(stopped.code) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]), signal.Signals[sys.argv[2]])
