"""The outputs of a routed model and of its parts.

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from sharcs_pl.core.kinds import Kind
from sharcs_pl.models.decision import Decision
from sharcs_pl.models.router import loss_of, router_loss


@dataclass
class SharcsOutput(ModelOutput):
    """The output of a pass. `loss`: sum of the requested ones of `task_loss` and `router_loss`. `logits`: [B, C].
    `router_logits`: [B, W], None without a router. `rungs`: [B] long, the rung that each sample ended on.
    `first_rungs`: [B] long, the one that it began at, None unless a cascade decided."""

    # Those of `Any` are None unless asked for; the others always a Tensor, and None only as a default, after one.
    loss: Any = None
    logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    task_loss: Any = None
    router_loss: Any = None
    router_logits: Any = None
    rungs: Tensor = None  # pyright: ignore[reportAssignmentType]
    first_rungs: Any = None

    @classmethod
    def of(
        cls,
        decision: Decision,
        router_logits: Tensor | None,
        labels: Tensor | None,
        memberships: Tensor | None,
        kind: Kind,
    ) -> SharcsOutput:
        """Return an output with the task loss if `labels` ([B] or [B, C], as the `kind` of task has them) are given,
        and the router loss if `memberships` [B, W] are."""
        logits = decision.logits
        task = None if labels is None else loss_of(kind, logits, labels)
        router = None
        if memberships is not None and router_logits is not None:
            router = router_loss(router_logits, memberships)
        losses = [loss for loss in (task, router) if loss is not None]
        total = torch.stack(losses).sum() if losses else None
        first = decision.first if decision.cascades else None
        return cls(total, logits, task, router, router_logits, decision.rungs, first)


class EveryRung(NamedTuple):
    """The output of `all_rungs`. `logits`: [B, W, C]. `signals`: [B, W], the router logits or exit certainties that
    choose a rung, or None. `macs`: [B, W], None if they follow from the length of a text."""

    logits: Tensor
    signals: Tensor | None = None
    macs: Tensor | None = None


@dataclass(frozen=True)
class TrunkState:
    """The input of the tails: `hidden` [B, L, D], `attention_mask` [B, L] long, `router_logits` [B, W] or None.

    With skimming, L counts the remaining tokens at inference. `counts`: [B, split_layer + 2], the numbers of tokens at
    the input, in each trunk layer and in the tail. `gate`: [B, L], the tail's draw in training, 1 or 0, with gradients.
    """

    hidden: Tensor
    attention_mask: Tensor
    router_logits: Tensor | None = None
    counts: Tensor | None = None
    gate: Tensor | None = None

    def select(self, rows: Tensor) -> TrunkState:
        """Return the state of the samples `rows`, [n] long."""
        logits, counts, gate = (None if x is None else x[rows] for x in (self.router_logits, self.counts, self.gate))
        return TrunkState(self.hidden[rows], self.attention_mask[rows], logits, counts, gate)
