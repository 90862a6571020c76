"""Reordering of heads and neurons in the middle of a training: the important ones first, the function unchanged.

A narrow width keeps the leading heads and neurons. They are put in order when the full width has learned the task, as
DynaBERT does between two trainings (Hou et al., NeurIPS 2020, arXiv 2004.04037, section 3.1); here the optimizer's
moments move along, so that the training goes on as if the encoder had had this order from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from sharcs_pl.models.order import Order, reorder
from sharcs_pl.training.checkpoints import epoch_is_whole

FindOrder = Callable[[Any], Order]
"""The order of a stock model's heads and neurons, important ones first."""


class ReorderInPlace(Callback):
    """Callback that reorders the encoder at the end of epoch number ``after``, counted from 1.

    Among the callbacks it stands before those that save, so that the checkpoint of that epoch has the new order. All
    processes take the order that the first one found. ``find`` gets the stock model, in evaluation mode.
    """

    def __init__(self, after: int, find: FindOrder) -> None:
        self.after = after
        self.find = find

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not epoch_is_whole(trainer) or trainer.current_epoch + 1 != self.after:
            return
        model: Any = pl_module.model
        stock = model.encoder
        order = trainer.strategy.broadcast(self._found(stock) if trainer.is_global_zero else None)
        assert order is not None
        reorder_with_moments(stock, order, trainer.optimizers[0])

    def _found(self, stock: Any) -> Order:
        was_training = stock.training
        stock.eval()
        try:
            return self.find(stock)
        finally:
            stock.train(was_training)


def reorder_with_moments(stock: Any, order: Order, optimizer: torch.optim.Optimizer) -> None:
    """Put the heads and neurons of ``stock`` into ``order``, in place, with what the optimizer keeps of each weight."""

    def tensors(parameter: nn.Parameter) -> list[Tensor]:
        state = optimizer.state.get(parameter, {}).values()
        kept = [x for x in state if isinstance(x, Tensor) and x.shape == parameter.shape]
        return [parameter, *kept]

    reorder(stock, order, tensors)
