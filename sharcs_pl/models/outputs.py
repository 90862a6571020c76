"""What the parts of a routed model hand on.

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from transformers.utils.generic import ModelOutput


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


class EveryRung(NamedTuple):
    """What `all_rungs` gives: `logits` [B, W, C]; `signals` [B, W], by which a rung is chosen (router logits, or an
    exit's certainties), None where nothing is; `macs` [B, W], None where a text's length tells them."""

    logits: Tensor
    signals: Tensor | None = None
    macs: Tensor | None = None


@dataclass(frozen=True)
class TrunkState:
    """What the tails start from: `hidden` [B, L, D], `attention_mask` [B, L] long, `router_logits` [B, W] or None."""

    hidden: Tensor
    attention_mask: Tensor
    router_logits: Tensor | None

    def select(self, rows: Tensor) -> TrunkState:
        """The state of some samples, `rows` [n] long."""
        logits = None if self.router_logits is None else self.router_logits[rows]
        return TrunkState(self.hidden[rows], self.attention_mask[rows], logits)
