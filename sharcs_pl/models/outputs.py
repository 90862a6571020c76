"""What the parts of a routed model hand on.

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from sharcs_pl.models.router import router_loss, task_loss


@dataclass
class SharcsOutput(ModelOutput):
    """`loss` = `task_loss` + `router_loss`, of those that were asked for; `logits` [B, C]; `router_logits` [B, W] (None
    without a router); `rungs` [B] long: the rung each sample ran on."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    task_loss: Tensor | None = None
    router_loss: Tensor | None = None
    router_logits: Tensor | None = None
    rungs: Tensor | None = None

    @classmethod
    def of(
        cls,
        logits: Tensor,
        router_logits: Tensor | None,
        rungs: Tensor,
        labels: Tensor | None,
        memberships: Tensor | None,
    ) -> SharcsOutput:
        """With the losses that `labels` [B] and `memberships` [B, W] ask for."""
        task = None if labels is None else task_loss(logits, labels, logits.shape[-1])
        router = None
        if memberships is not None and router_logits is not None:
            router = router_loss(router_logits, memberships)
        losses = [loss for loss in (task, router) if loss is not None]
        total = torch.stack(losses).sum() if losses else None
        return cls(total, logits, task, router, router_logits, rungs)


class EveryRung(NamedTuple):
    """What `all_rungs` gives: `logits` [B, W, C]; `signals` [B, W], by which a rung is chosen (router logits, or an
    exit's certainties), None where nothing is; `macs` [B, W], None where a text's length tells them."""

    logits: Tensor
    signals: Tensor | None = None
    macs: Tensor | None = None


@dataclass(frozen=True)
class TrunkState:
    """What the tails start from: `hidden` [B, L, D], `attention_mask` [B, L] long, `router_logits` [B, W] or None.

    Where tokens are skimmed, L is what is left at inference, and `counts` [B, split_layer + 2] says how many tokens
    came in, ran in each layer of the trunk, and run in the tail; `gate` [B, L]: in training the tail's draw, 1 or 0,
    with gradients.
    """

    hidden: Tensor
    attention_mask: Tensor
    router_logits: Tensor | None = None
    counts: Tensor | None = None
    gate: Tensor | None = None

    def select(self, rows: Tensor) -> TrunkState:
        """The state of some samples, `rows` [n] long."""
        logits, counts, gate = (None if x is None else x[rows] for x in (self.router_logits, self.counts, self.gate))
        return TrunkState(self.hidden[rows], self.attention_mask[rows], logits, counts, gate)
