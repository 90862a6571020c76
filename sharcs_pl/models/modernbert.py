"""Functions for ModernBERT in the table of families: two kinds of layers, rotary positions, a norm after the last one.

Dimensions: `B` batch, `L` tokens, `D` hidden, `H` head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

from sharcs_pl.models.head import HeadParts, first_token, mean_token
from sharcs_pl.models.layers import ByKind, Tail


def masks(stock: Any, hidden: Tensor, attention_mask: Tensor) -> ByKind:
    """Return the masks by kind of layer, which attends to every real token or to a window around each token."""
    given = {"config": stock.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
    given["allow_is_bidirectional_skip"] = hidden.device.type == "cpu"  # elsewhere the look whether it can would wait
    every, near = create_bidirectional_mask(**given), create_bidirectional_sliding_window_mask(**given)
    return ByKind("attention_type", {"full_attention": every, "sliding_attention": near})


def rotary(base: Any, hidden: Tensor, heads: int, tail: Tail | None = None) -> dict[str, Any]:
    """Return the cosines and sines [1, L, H] that rotate queries and keys. All rungs have the same head size."""
    places = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
    turns = {kind: base.rotary_emb(hidden, places, kind) for kind in base.rotary_emb.layer_types}
    return {"position_embeddings": ByKind("attention_type", turns)}


def head(stock: Any) -> HeadParts:
    """Return the parts of the head: dense, activation and norm on the first token or on the mean of all tokens."""
    first, pool = stock.head, mean_token if stock.config.classifier_pooling == "mean" else first_token
    activation = nn.Sequential(first.act, first.norm)
    return HeadParts(nn.Identity(), first.dense, activation, stock.drop, stock.classifier, pool)
