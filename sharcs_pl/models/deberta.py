"""What DeBERTa-v3 needs beyond a row: attention that also reads a table of relative positions.

Dimensions: `B` batch, `L` tokens, `D` hidden, `P` relative positions; with an index `i`, the same at rung i.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN

from sharcs_pl.models.head import HeadParts
from sharcs_pl.models.layers import Tail


def embed(base: Any, input_ids: Tensor, token_type_ids: Tensor | None, attention_mask: Tensor | None = None) -> Tensor:
    """DeBERTa starts padding at zero; that shows where the first token, which the head reads, is padding."""
    return base.embeddings(input_ids=input_ids, token_type_ids=token_type_ids, mask=attention_mask)


def relative_positions(base: Any, hidden: Tensor, heads: int, tail: Tail | None = None) -> dict[str, Any]:
    """The distances [1, L, L] and a table of their embeddings [P, D_i]: a narrow rung reads its leading dims, normed by
    a norm of its own."""
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
    """The mask [B, 1, L, L]: real tokens attend to real tokens."""
    return stock.deberta.encoder.get_attention_mask(attention_mask)


def table_norm(base: Any) -> dict[str, nn.LayerNorm]:
    """The norm of the table, where the config asks for one."""
    encoder = base.encoder
    normed = encoder.relative_attention and "layer_norm" in encoder.norm_rel_ebd
    return {"positions": encoder.LayerNorm} if normed else {}


def costs(config: Any) -> dict[str, int]:
    """The products with relative positions. A shared projection takes them to keys and to queries in any case."""
    if not config.relative_attention:
        return {}
    terms = len({"c2p", "p2c"} & set(config.pos_att_type or []))
    longest = config.max_relative_positions if config.max_relative_positions > 0 else config.max_position_embeddings
    buckets = getattr(config, "position_buckets", -1)
    projections = 2 if getattr(config, "share_att_key", False) else terms
    rows = 2 * (buckets if buckets > 0 else longest)
    return {"relative_positions": rows, "position_terms": terms, "position_projections": projections}


def head(stock: Any) -> HeadParts:
    """A pooler on the first token, with a dropout before it."""
    pooler, activation = stock.pooler, ACT2FN[stock.config.pooler_hidden_act]
    return HeadParts(pooler.dropout, pooler.dense, activation, stock.dropout, stock.classifier)
