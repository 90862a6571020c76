"""The end of a run whose loss, weights or answers are no longer finite; its last good checkpoint is kept."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sharcs_pl.core.errors import Diverged
from sharcs_pl.core.ranks import all_ranks

BEHIND = {"cuda": 1}  # steps, by device, after which a loss is read


class Reading:
    """Numbers of a tensor [n] on their way to the host. A GPU goes on with what it is given afterwards."""

    def __init__(self, tensor: Tensor) -> None:
        self._host = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._done = torch.cuda.current_stream(tensor.device).record_event() if tensor.is_cuda else None

    def values(self) -> list[float]:
        """Return the numbers; waits for what the GPU was given before."""
        if self._done is not None:
            self._done.synchronize()
        return self._host.tolist()


class StopAtDivergence(Callback):
    """Callback that raises ``Diverged`` in every process at once.

    - After a step whose loss is NaN or infinite in any process. The loss is summed over the processes where it lies. A
      GPU is not waited for: its losses are read a step later, and before anything is validated, saved or closed.
    - Before a checkpoint with weights that are not finite: it would replace a good one. A step can spoil them while its
      own loss is finite.
    - After a validation whose answers are not all finite, during training or at its end.

    Among the callbacks it stands first, so that on a CPU the others see no such step.
    """

    def __init__(self) -> None:
        self._unread: deque[tuple[Reading, str]] = deque()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["objective"].float()
        total: Any = trainer.strategy.reduce(loss.clone(), reduce_op="sum")
        self._unread.append((Reading(torch.stack([loss, total])), place(trainer, batch_idx)))
        self._check(BEHIND.get(loss.device.type, 0))

    def _check(self, behind: int = 0) -> None:
        """Read the losses of all steps but the last `behind`."""
        while len(self._unread) > behind:
            reading, where = self._unread.popleft()
            loss, total = reading.values()
            if not math.isfinite(total):
                losses = [value for value in all_ranks(loss) if not math.isfinite(value)]
                raise Diverged(f"the loss is {(losses or [total])[0]} in {where}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check()
        # The weights of all processes are the same, and all of them come here.
        if not all_finite(checkpoint["state_dict"].values()):
            batch_idx = trainer.fit_loop.epoch_loop.batch_idx
            raise Diverged(f"the weights are not all finite after {place(trainer, batch_idx)}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        found: Any = pl_module.predictions  # of all processes, in each of them
        if any(len(each.faulty()) for each in found.values()):
            when = f"epoch {trainer.current_epoch} (step {trainer.global_step} of the run)"
            raise Diverged(f"the answers to the validation texts are not all finite after {when}{remedy(trainer)}")


def place(trainer: L.Trainer, batch_idx: int) -> str:
    """Return the position in training, the learning rate, and what to try."""
    rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
    where = f"epoch {trainer.current_epoch}, step {batch_idx} (step {trainer.global_step} of the run)"
    return f"{where} at a learning rate of {rate:.3g}{remedy(trainer)}"


def remedy(trainer: L.Trainer) -> str:
    """Return the advice for a diverged run, as the end of a message."""
    half = ", or trainer.precision=bf16-mixed instead of half precision" if str(trainer.precision)[:2] == "16" else ""
    return f"; try a smaller optim.lr{half}"


def all_finite(tensors: Any) -> bool:
    """Return True if no floating-point tensor holds NaN or infinity; each device is waited for once."""
    found = [x.isfinite().all() for x in tensors if x.is_floating_point()]
    return bool(torch.stack(found).all()) if found else True
