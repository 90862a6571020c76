"""The table of architectures, with one row for the parts of each stock `...ForSequenceClassification` class.

A new backbone is a new row. Everything else in `models` knows an encoder only through its row.

Dimensions: `B` batch, `L` tokens, `D` hidden, `E` embedding, `N` heads, `F` feed-forward, `C` labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import transformers
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from sharcs_pl.core.flops import EncoderShape
from sharcs_pl.models import bert_like, deberta, modernbert
from sharcs_pl.models.encoder_sizes import ARCHITECTURES, SizeKeys, check_architecture
from sharcs_pl.models.head import HeadParts
from sharcs_pl.models.layers import LayerSize, keep_hidden, make_view
from sharcs_pl.models.parts import (
    ALBERT_PARTS,
    BERT_PARTS,
    DEBERTA_PARTS,
    DISTILBERT_PARTS,
    MODERNBERT_PARTS,
    MPNET_PARTS,
    LayerParts,
)

EMBEDDED = ("inputs_embeds", "position_ids")
"""Inputs in the place of token ids [B, L, E], and of the positions that follow from their order [B, L] long."""


def _one_mask(stock: Any, hidden: Tensor, attention_mask: Tensor) -> Any:
    given = {"config": stock.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
    # A look whether the mask is needed makes the program wait for another device.
    return create_bidirectional_mask(**given, allow_is_bidirectional_skip=hidden.device.type == "cpu")


@dataclass(frozen=True)
class Family:
    """The description of an architecture: the `model_type` of its config, its stock class and the parts of this class.

    `embed` returns the first layer's input [B, L, D] from (base model, input_ids [B, L], token_type_ids [B, L] or None)
    and, if the embedding of padding depends on it, the attention mask [B, L]; by name it takes those of `EMBEDDED` in
    `takes`.
    `layers` lists the base model's layers in depth order; a layer may occur more than once. `parts`: names of parts of
    a layer. `layer_extras` returns further inputs of the layers from (base model, hidden, heads) and, for a rung, its
    tail. `mask` returns their mask from (stock model, hidden, attention mask [B, L]). Both may contain a
    `ByKind`. `outer_norms`: the base model's norms outside its layers, of which every rung has a copy: "final" runs
    after the last layer, "positions" on embeddings of relative positions, which the trunk also reads.
    `costs` returns further fields of `EncoderShape` from the config.
    `head_tables` lists the base model's embeddings [any, N] with an entry per head that all layers share.
    `always_projects`: the embeddings pass a Linear even if they have the hidden size.
    `head_prefixes` begin the names of parameters that are drawn afresh if a checkpoint lacks them.
    """

    model_type: str
    stock_class_name: str
    base: str
    embed: Callable[..., Tensor]
    layers: Callable[[Any], list[nn.Module]]
    head: Callable[[Any], HeadParts]
    parts: LayerParts
    head_prefixes: tuple[str, ...]
    takes: tuple[str, ...] = EMBEDDED
    layer_extras: Callable[..., dict[str, Any]] = lambda *_: {}
    mask: Callable[[Any, Tensor, Tensor], Any] = _one_mask
    outer_norms: Callable[[Any], dict[str, nn.LayerNorm]] = lambda _: {}
    costs: Callable[[Any], dict[str, int]] = lambda _: {}
    head_tables: Callable[[Any], list[nn.Embedding]] = lambda _: []
    dropouts: tuple[str, ...] = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    always_projects: bool = False

    @property
    def keys(self) -> SizeKeys:
        """The names of the sizes in the config."""
        return ARCHITECTURES[self.model_type]

    @property
    def stock_class(self) -> Any:
        """The stock class, imported on access because each class needs a separate, slow import."""
        return getattr(transformers, self.stock_class_name)

    def base_of(self, stock: Any) -> Any:
        """Return the encoder without the head."""
        return getattr(stock, self.base)

    def depth_order(self, stock: Any) -> list[nn.Module]:
        """Return the layers of a stock model in depth order."""
        return self.layers(self.base_of(stock))

    def size(self, config: Any) -> LayerSize:
        """Return the sizes of a full-width layer."""
        keys = self.keys
        return LayerSize(getattr(config, keys.hidden), getattr(config, keys.heads), getattr(config, keys.ffn))

    def resized(self, config: Any, size: LayerSize) -> Any:
        """Return a copy of a stock config with another layer size. The head size stays if D and N shrink alike."""
        narrow, keys = copy.deepcopy(config), self.keys
        for name, value in ((keys.hidden, size.hidden), (keys.heads, size.heads), (keys.ffn, size.ffn)):
            setattr(narrow, name, value)
        return narrow

    def with_dropout(self, config: Any, dropout: float) -> Any:
        """Set every dropout probability of a config to `dropout`, and return the config."""
        for name in self.dropouts:
            setattr(config, name, dropout)
        return config

    def view(self, layer: nn.Module, narrow_config: Any, norm_init: str, cut: str = "full") -> nn.Module:
        """Return a narrow view of a layer (see `make_view`). `cut` "heads_ffn" keeps all hidden dims."""
        view = make_view(layer, narrow_config, norm_init, self.parts.chunks)
        return view if cut == "full" else keep_hidden(view, layer, self.parts, norm_init)

    def shape(self, stock: Any) -> EncoderShape:
        """Return the sizes of the encoder for the cost model."""
        size = self.size(stock.config)
        embedding = getattr(stock.config, "embedding_size", None)
        projected = self.always_projects or embedding != size.hidden
        return EncoderShape(
            hidden_size=size.hidden,
            num_heads=size.heads,
            head_size=size.hidden // size.heads,
            intermediate_size=size.ffn,
            num_layers=len(self.depth_order(stock)),
            num_labels=stock.config.num_labels,
            embedding_size=embedding if projected else None,
            **self.costs(stock.config),
        )


_BERT = Family(
    model_type="bert",
    stock_class_name="BertForSequenceClassification",
    base="bert",
    embed=bert_like.embed_with_types,
    layers=lambda base: list(base.encoder.layer),
    head=bert_like.bert_head,
    parts=BERT_PARTS,
    head_prefixes=("classifier.", "bert.pooler."),
)

_ROBERTA = replace(
    _BERT,
    model_type="roberta",
    stock_class_name="RobertaForSequenceClassification",
    base="roberta",
    head=bert_like.tanh_head,
    head_prefixes=("classifier.",),
)

_ROWS = (
    _BERT,
    _ROBERTA,
    replace(_ROBERTA, model_type="xlm-roberta", stock_class_name="XLMRobertaForSequenceClassification"),
    replace(
        _ROBERTA,
        model_type="electra",
        stock_class_name="ElectraForSequenceClassification",
        base="electra",
        embed=bert_like.embed_electra,
        head=bert_like.electra_head,
    ),
    replace(
        _ROBERTA,
        model_type="mpnet",
        stock_class_name="MPNetForSequenceClassification",
        base="mpnet",
        embed=bert_like.embed_without_types,
        parts=MPNET_PARTS,
        layer_extras=bert_like.position_bias,
        head_tables=lambda base: [base.encoder.relative_attention_bias],
        dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob"),
    ),
    Family(
        model_type="distilbert",
        stock_class_name="DistilBertForSequenceClassification",
        base="distilbert",
        embed=bert_like.embed_without_types,
        layers=lambda base: list(base.transformer.layer),
        head=bert_like.distilbert_head,
        parts=DISTILBERT_PARTS,
        head_prefixes=("pre_classifier.", "classifier."),
        dropouts=("dropout", "attention_dropout", "seq_classif_dropout"),
    ),
    Family(
        model_type="albert",
        stock_class_name="AlbertForSequenceClassification",
        base="albert",
        embed=bert_like.embed_albert,
        layers=bert_like.albert_layers,
        head=bert_like.albert_head,
        parts=ALBERT_PARTS,
        head_prefixes=("classifier.", "albert.pooler."),
        dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"),
        always_projects=True,
    ),
    Family(
        model_type="modernbert",
        stock_class_name="ModernBertForSequenceClassification",
        base="model",
        embed=bert_like.embed_without_types,
        layers=lambda base: list(base.layers),
        head=modernbert.head,
        parts=MODERNBERT_PARTS,
        head_prefixes=("head.", "classifier."),
        takes=("inputs_embeds",),  # positions turn in every layer
        layer_extras=modernbert.rotary,
        mask=modernbert.masks,
        outer_norms=lambda base: {"final": base.final_norm},
        costs=lambda _: {"ffn_matrices": 3},  # gated: the first product gives values and gates
        dropouts=("embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout"),
    ),
    replace(
        _BERT,
        model_type="deberta-v2",
        stock_class_name="DebertaV2ForSequenceClassification",
        base="deberta",
        embed=deberta.embed,
        head=deberta.head,
        parts=DEBERTA_PARTS,
        head_prefixes=("classifier.", "pooler."),
        layer_extras=deberta.relative_positions,
        mask=deberta.pairs,
        outer_norms=deberta.table_norm,
        costs=deberta.costs,
        dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "cls_dropout"),
    ),
)

FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}


def get_family(model_type: str) -> Family:
    """Return the row of an architecture. Raise `ValueError` listing the supported ones for any other."""
    check_architecture(model_type)
    return FAMILIES[model_type]
