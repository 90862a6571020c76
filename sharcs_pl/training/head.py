"""Fitting of a fresh head on a frozen encoder; without a head, a loss says nothing about the encoder's parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.data.table import TokenTable
from sharcs_pl.models.families import get_family
from sharcs_pl.models.router import task_loss


def fit_head(stock: Any, table: TokenTable, steps: int, lr: float, batch_size: int, seed: int) -> float:
    """Train the head's parameters for `steps` AdamW steps on batches of `table` drawn with the seed, the learning rate
    falling linearly to 0, without dropout. Return the mean loss of the last ten steps (nan without steps)."""
    prefixes = get_family(stock.config.model_type).head_prefixes
    head = {name: parameter for name, parameter in stock.named_parameters() if name.startswith(prefixes)}
    losses: list[Tensor] = []
    with only_training(stock, set(head)):
        optimizer = torch.optim.AdamW(head.values(), lr=lr)
        for step, batch in enumerate(_batches(table, steps, batch_size, seed)):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
            loss = _loss(stock, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        optimizer.zero_grad()
    return float(np.mean([loss.item() for loss in losses[-10:]])) if losses else float("nan")


def _loss(stock: Any, batch: dict[str, Tensor]) -> Tensor:
    inputs = {name: value.to(stock.device, non_blocking=stock.device.type == "cuda") for name, value in batch.items()}
    labels = inputs.pop("labels")
    return task_loss(stock(**inputs).logits, labels, stock.config.num_labels)


def _batches(table: TokenTable, steps: int, batch_size: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield batches from one shuffle after another."""
    rng, queue = np.random.default_rng(seed), np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(queue) < min(batch_size, len(table)):
            queue = np.concatenate([queue, rng.permutation(len(table))])
        yield table.collate(queue[:batch_size])
        queue = queue[batch_size:]


@contextmanager
def only_training(stock: Any, names: set[str]) -> Iterator[None]:
    """Let gradients reach the named parameters alone inside a block."""
    before = {name: parameter.requires_grad for name, parameter in stock.named_parameters()}
    for name, parameter in stock.named_parameters():
        parameter.requires_grad_(name in names)
    try:
        yield
    finally:
        for name, parameter in stock.named_parameters():
            parameter.requires_grad_(before[name])
