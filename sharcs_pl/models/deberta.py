"""Functions for DeBERTa-v3 in the table of families, whose attention also reads a table of relative positions.

Dimensions: `B` batch, `L` tokens, `D` hidden, `P` relative positions; an index `i` marks the size at rung i.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN

from sharcs_pl.models.head import HeadParts
from sharcs_pl.models.layers import Tail


def embed(
    base: Any,
    input_ids: Tensor | None,
    token_type_ids: Tensor | None,
    attention_mask: Tensor | None = None,
    **given: Tensor,
) -> Tensor:
    """Return the embeddings, zero at padding, which matters if the first token, which the head reads, is padding."""
    return base.embeddings(input_ids=input_ids, token_type_ids=token_type_ids, mask=attention_mask, **given)


def relative_positions(base: Any, hidden: Tensor, heads: int, tail: Tail | None = None) -> dict[str, Any]:
    """Return the distances [1, L, L] and the table of their embeddings [P, D_i]. A narrow rung reads the leading dims,
    normalised by its own norm."""
    encoder = base.encoder
    if not encoder.relative_attention:
        return {}
    table, norm = encoder.rel_embeddings.weight, table_norm(base).get("positions")
    if tail is not None:
        table, norm = _leading(table, tail.size.hidden), tail.outer_norm("positions")
    return {"relative_pos": encoder.get_rel_pos(hidden), "rel_embeddings": table if norm is None else norm(table)}


def _leading(table: Tensor, size: int) -> Tensor:
    return table if table.shape[1] == size else table[:, :size]


def pairs(stock: Any, hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mask [B, 1, L, L], by which real tokens attend to real tokens."""
    return stock.deberta.encoder.get_attention_mask(attention_mask)


def table_norm(base: Any) -> dict[str, nn.LayerNorm]:
    """Return the norm of the position table by name, an empty dict if the config has none."""
    encoder = base.encoder
    normed = encoder.relative_attention and "layer_norm" in encoder.norm_rel_ebd
    return {"positions": encoder.LayerNorm} if normed else {}


def costs(config: Any) -> dict[str, int]:
    """Return the numbers of products with relative positions. A shared projection always gives keys and queries."""
    if not config.relative_attention:
        return {}
    terms = len({"c2p", "p2c"} & set(config.pos_att_type or []))
    longest = config.max_relative_positions if config.max_relative_positions > 0 else config.max_position_embeddings
    buckets = getattr(config, "position_buckets", -1)
    projections = 2 if getattr(config, "share_att_key", False) else terms
    rows = 2 * (buckets if buckets > 0 else longest)
    return {"relative_positions": rows, "position_terms": terms, "position_projections": projections}


def head(stock: Any) -> HeadParts:
    """Return the parts of the head, a pooler on the first token after a dropout."""
    pooler, activation = stock.pooler, ACT2FN[stock.config.pooler_hidden_act]
    return HeadParts(pooler.dropout, pooler.dense, activation, stock.dropout, stock.classifier)
