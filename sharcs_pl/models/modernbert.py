"""What ModernBERT needs beyond a row: two kinds of layers, rotary positions, a norm after the last layer.

Dimensions: `B` batch, `L` tokens, `D` hidden, `H` head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

from sharcs_pl.models.head import HeadParts, first_token, mean_token
from sharcs_pl.models.layers import ByKind, Tail


def layers(base: Any) -> list[nn.Module]:
    """The layers, first to last."""
    return list(base.layers)


def masks(stock: Any, hidden: Tensor, attention_mask: Tensor) -> ByKind:
    """A layer sees every real token, or those in a window around each."""
    given = {"config": stock.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
    every, near = create_bidirectional_mask(**given), create_bidirectional_sliding_window_mask(**given)
    return ByKind("attention_type", {"full_attention": every, "sliding_attention": near})


def rotary(base: Any, hidden: Tensor, heads: int, tail: Tail | None = None) -> dict[str, Any]:
    """Cosines and sines [1, L, H] that turn queries and keys; the head size is the same at every rung."""
    places = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
    turns = {kind: base.rotary_emb(hidden, places, kind) for kind in base.rotary_emb.layer_types}
    return {"position_embeddings": ByKind("attention_type", turns)}


def final_norm(base: Any) -> dict[str, nn.LayerNorm]:
    """The norm after the last layer: nothing before it normalises the residual stream."""
    return {"final": base.final_norm}


def costs(config: Any) -> dict[str, int]:
    """The first product of the feed-forward block gives values and gates."""
    return {"ffn_matrices": 3}


def head(stock: Any) -> HeadParts:
    """Dense, activation and norm, on the first token or on the mean of all."""
    first, pool = stock.head, mean_token if stock.config.classifier_pooling == "mean" else first_token
    activation = nn.Sequential(first.act, first.norm)
    return HeadParts(nn.Identity(), first.dense, activation, stock.drop, stock.classifier, pool)
