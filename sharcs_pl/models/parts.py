"""Where a stock layer keeps its parts: attention and feed-forward, each followed by its norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class LayerParts:
    """Names of a layer's submodules, in the order in which they run; where norms run first (`SizeKeys.pre_norm`), each
    before its block. `ffn_norm` is the last of the layer: where norms run last, the norm after the cut starts from it.

    `chunks`: the Linears that hold several blocks of outputs one below the other, with their number. A projection to
    query, key and value at once goes by one name three times; a gated feed-forward block has two blocks in `ffn_in`.
    `position_projections`: Linears from hidden dims to heads that a table of relative positions passes, where there are
    any.
    """

    query: str
    key: str
    value: str
    attention_out: str
    attention_norm: str
    ffn_in: str
    activation: str
    ffn_out: str
    ffn_norm: str
    chunks: Mapping[str, int] = field(default_factory=dict)
    position_projections: tuple[str, ...] = ()


BERT_PARTS = LayerParts(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    ffn_in="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    ffn_out="output.dense",
    ffn_norm="output.LayerNorm",
)

DEBERTA_PARTS = replace(
    BERT_PARTS,
    query="attention.self.query_proj",
    key="attention.self.key_proj",
    value="attention.self.value_proj",
    position_projections=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
)

MPNET_PARTS = LayerParts(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attention_out="attention.attn.o",
    attention_norm="attention.LayerNorm",
    ffn_in="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    ffn_out="output.dense",
    ffn_norm="output.LayerNorm",
)

DISTILBERT_PARTS = LayerParts(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_out="attention.out_lin",
    attention_norm="sa_layer_norm",
    ffn_in="ffn.lin1",
    activation="ffn.activation",
    ffn_out="ffn.lin2",
    ffn_norm="output_layer_norm",
)

ALBERT_PARTS = LayerParts(
    query="attention.query",
    key="attention.key",
    value="attention.value",
    attention_out="attention.dense",
    attention_norm="attention.LayerNorm",
    ffn_in="ffn",
    activation="activation",
    ffn_out="ffn_output",
    ffn_norm="full_layer_layer_norm",
)

MODERNBERT_PARTS = LayerParts(
    query="attn.Wqkv",
    key="attn.Wqkv",
    value="attn.Wqkv",
    attention_out="attn.Wo",
    attention_norm="attn_norm",
    ffn_in="mlp.Wi",
    activation="mlp.act",
    ffn_out="mlp.Wo",
    ffn_norm="mlp_norm",
    chunks={"attn.Wqkv": 3, "mlp.Wi": 2},
)
