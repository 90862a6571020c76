"""Trunk and tails as inference runs them where no layer is written out: the model's own layers, with equal logits.

Attention of another kind than BERT's (rotary or relative positions, windows) goes this way. Hidden states are packed
between trunk and tails, where they wait, but not inside.

Dimensions: `B` batch, `L` tokens of a row, `T` real tokens of all samples, `D` hidden, `W` rungs, `C` labels; an index
`i` marks the dimension at rung i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sharcs_pl.inference.layout import Layout
from sharcs_pl.models.layers import Tail
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.router import Router


class RungTail(nn.Module):
    """The part of one rung after the trunk: `enter` cuts and normalises, `forward` runs the layers and the head."""

    def __init__(self, model: SharcsForSequenceClassification, rung: int) -> None:
        super().__init__()
        tail = model.tails[rung]
        assert isinstance(tail, Tail)
        self._model, self._tail = (model,), (tail,)  # not submodules of ours
        self.reduction, self.norm = tail.reduction, tail.norm

    def enter(self, hidden: Tensor) -> Tensor:
        """Map the trunk's output [.., D] to [.., D_i]."""
        return self.norm(self.reduction(hidden))


class PlainTail(RungTail):
    """The stock layers and views of a rung."""

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Map [B, L, D_i] or [T, D_i] from `enter`, as `layout` says, to logits [B, C]."""
        (model,), (tail,) = self._model, self._tail
        rows = layout.spread(hidden)
        mask = torch.ones(rows.shape[:2], dtype=torch.long, device=rows.device) if layout.mask is None else layout.mask
        return model.after_cut(tail, rows, mask)


class PlainTrunk(nn.Module):
    """The model's own trunk, and the router, which decides in float32."""

    def __init__(self, model: SharcsForSequenceClassification, router: Router | None) -> None:
        super().__init__()
        self.router = router
        self._model = (model,)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, layout: Layout, route: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Map [B, L] long each to hidden [B, L, D] or [T, D], as `layout` says, and router logits [B, W] float32 (None
        without a router, or unless `route`)."""
        (model,) = self._model
        state = model.before_router(input_ids, layout.mask, token_type_ids)
        hidden = layout.collect(state.hidden)
        return hidden, None if self.router is None or not route else self.router(
            state.hidden.float(), state.attention_mask
        )
