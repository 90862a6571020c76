"""The names of the parts of stock layers: attention and feed-forward, each followed by its norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class LayerParts:
    """The names of a layer's submodules in running order; with `SizeKeys.pre_norm` each norm runs before its block.

    Without `pre_norm`, `ffn_norm` is the last submodule, and the norm after the cut starts from it. `chunks`: number of
    stacked output blocks of each Linear with several. A fused projection to query, key and value has its name three
    times; a gated feed-forward block has two blocks in `ffn_in`. `position_projections`: Linears from hidden dims to
    heads for a table of relative positions, if any.
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

MPNET_PARTS = replace(
    BERT_PARTS,
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attention_out="attention.attn.o",
    attention_norm="attention.LayerNorm",
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
