"""Functions for BERT, RoBERTa, ELECTRA, MPNet, DistilBERT and ALBERT in the table of families."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sharcs_pl.models.head import HeadParts
from sharcs_pl.models.layers import Tail


def embed_with_types(
    base: Any, input_ids: Tensor | None, token_type_ids: Tensor | None, *mask: Any, **given: Tensor
) -> Tensor:
    return base.embeddings(input_ids=input_ids, token_type_ids=token_type_ids, **given)


def embed_without_types(
    base: Any, input_ids: Tensor | None, token_type_ids: Tensor | None, *mask: Any, **given: Tensor
) -> Tensor:
    return base.embeddings(input_ids=input_ids, **given)


def embed_electra(
    base: Any, input_ids: Tensor | None, token_type_ids: Tensor | None, *mask: Any, **given: Tensor
) -> Tensor:
    hidden = embed_with_types(base, input_ids, token_type_ids, **given)  # [B, L, E]
    return base.embeddings_project(hidden) if hasattr(base, "embeddings_project") else hidden


def embed_albert(
    base: Any, input_ids: Tensor | None, token_type_ids: Tensor | None, *mask: Any, **given: Tensor
) -> Tensor:
    hidden = embed_with_types(base, input_ids, token_type_ids, **given)  # [B, L, E]
    return base.encoder.embedding_hidden_mapping_in(hidden)


def albert_layers(base: Any) -> list[nn.Module]:
    """Return the group of shared layers of each depth, chosen as in the stock loop."""
    config = base.config
    per_group = config.num_hidden_layers / config.num_hidden_groups
    groups = [base.encoder.albert_layer_groups[int(i / per_group)] for i in range(config.num_hidden_layers)]
    return [layer for group in groups for layer in group.albert_layers]


def position_bias(base: Any, hidden: Tensor, heads: int, tail: Tail | None = None) -> dict[str, Any]:
    """Return MPNet's learned position bias per head, [B, N, L, L]; a narrow rung keeps its leading heads."""
    return {"position_bias": base.encoder.compute_position_bias(hidden)[:, :heads]}


def bert_head(stock: Any) -> HeadParts:
    pooler = stock.bert.pooler
    return HeadParts(nn.Identity(), pooler.dense, pooler.activation, stock.dropout, stock.classifier)


def albert_head(stock: Any) -> HeadParts:
    base = stock.albert
    return HeadParts(nn.Identity(), base.pooler, base.pooler_activation, stock.dropout, stock.classifier)


def distilbert_head(stock: Any) -> HeadParts:
    return HeadParts(nn.Identity(), stock.pre_classifier, torch.relu, stock.dropout, stock.classifier)


def tanh_head(stock: Any) -> HeadParts:
    head = stock.classifier
    return HeadParts(head.dropout, head.dense, torch.tanh, head.dropout, head.out_proj)


def electra_head(stock: Any) -> HeadParts:
    head = stock.classifier
    return HeadParts(head.dropout, head.dense, head.activation, head.dropout, head.out_proj)
