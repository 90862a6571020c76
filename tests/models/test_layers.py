from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharcs_pl.core.flops import full_layer_macs, layer_macs
from sharcs_pl.models.families import FAMILIES, get_family
from sharcs_pl.models.layers import (
    LayerSize,
    LeadingSlice,
    LearnedPooling,
    make_reduction,
    make_view,
    private_norm,
)
from sharcs_pl.models.routed import SharcsForSequenceClassification


def test_learned_pooling_is_a_weighted_sum_of_neighbours() -> None:
    pooling = LearnedPooling(4, 2)
    hidden = torch.tensor([[[1.0, 3.0, 10.0, 30.0]]])
    assert pooling(hidden).tolist() == [[[2.0, 20.0]]]
    with torch.no_grad():
        pooling.weight.copy_(torch.tensor([[1.0, -1.0], [0.5, 2.0]]))
    assert pooling(hidden).tolist() == [[[-2.0, 65.0]]]


def test_reductions() -> None:
    hidden = torch.randn(2, 3, 8)
    assert torch.equal(make_reduction("slice", 8, 2)(hidden), hidden[..., :2])
    assert isinstance(make_reduction("slice", 8, 2), LeadingSlice)
    assert isinstance(make_reduction("learned", 8, 2), LearnedPooling)
    for kind in ("slice", "learned"):
        assert torch.equal(make_reduction(kind, 8, 8)(hidden), hidden)


def test_a_private_norm_starts_from_the_slice_or_from_scratch() -> None:
    owner = nn.LayerNorm(6, eps=1e-3)
    nn.init.normal_(owner.weight)
    nn.init.normal_(owner.bias)
    norm, fresh = private_norm(owner, 4, "pretrained"), private_norm(owner, 4, "scratch")
    assert torch.equal(norm.weight, owner.weight[:4])
    assert torch.equal(norm.bias, owner.bias[:4])
    assert norm.eps == fresh.eps == 1e-3
    assert fresh.weight.tolist() == [1.0] * 4
    assert fresh.bias.tolist() == [0.0] * 4
    with torch.no_grad():
        norm.weight.zero_()
    assert owner.weight.abs().min() > 0


def test_a_view_has_only_norms_of_its_own_and_draws_no_random_number(stock: Any) -> None:
    model = stock("bert")
    family = get_family("bert")
    layer = family.depth_order(model)[0]
    state = torch.get_rng_state()
    view = make_view(layer, family.resized(model.config, LayerSize(24, 2, 32)), "pretrained")
    assert torch.equal(torch.get_rng_state(), state)
    names = {name for name, _ in view.named_parameters()}
    assert names == {
        f"{part}.LayerNorm.{kind}" for part in ("attention.output", "output") for kind in ("weight", "bias")
    }
    assert not any(tensor.is_meta for tensor in (*view.parameters(), *view.buffers()))
    assert model.config.hidden_size == 48


def test_a_narrow_bert_layer_by_hand(stock: Any) -> None:
    model = stock("bert").double()
    family = get_family("bert")
    layer = family.depth_order(model)[1]
    view = make_view(layer, family.resized(model.config, LayerSize(24, 2, 32)), "pretrained")
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    w = {name: value.detach() for name, value in layer.named_parameters()}

    def linear(x: torch.Tensor, name: str, out: int) -> torch.Tensor:
        return x @ w[f"{name}.weight"][:out, : x.shape[-1]].T + w[f"{name}.bias"][:out]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (24,), w[f"{name}.weight"][:24], w[f"{name}.bias"][:24], 1e-12)

    q, k, v = (linear(x, f"attention.self.{part}", 24).view(2, 5, 2, 12) for part in ("query", "key", "value"))
    scores = torch.einsum("bqnh,bknh->bnqk", q, k) / 12**0.5
    context = torch.einsum("bnqk,bknh->bqnh", scores.softmax(-1), v).reshape(2, 5, 24)
    middle = norm(linear(context, "attention.output.dense", 24) + x, "attention.output.LayerNorm")
    inner = F.gelu(linear(middle, "intermediate.dense", 32))
    want = norm(linear(inner, "output.dense", 24) + middle, "output.LayerNorm")
    torch.testing.assert_close(view(x), want)


@pytest.mark.parametrize("model_type", sorted({*FAMILIES} - {"albert"}))  # its trunk shares the tail's layers
def test_without_the_cut_heads_and_neurons_the_hidden_dims_stay(model_type: str, stock: Any, batch: Any) -> None:
    """A cut that keeps the hidden size is the stock model with what the other heads and neurons add set to zero."""
    whole, inputs = stock(model_type), batch(model_type)
    model = SharcsForSequenceClassification.from_encoder(whole, widths=[0.5, 1], split_layer=1, cut="heads_ffn")
    family, silenced = get_family(model_type), copy.deepcopy(whole)
    layers = {id(layer): layer for layer in family.depth_order(silenced)[1:]}.values()
    for layer in layers:
        for name in (family.parts.attention_out, family.parts.ffn_out):
            weight = layer.get_parameter(f"{name}.weight")
            weight.data[:, weight.shape[1] // 2 :] = 0
    torch.testing.assert_close(model(**inputs, rungs=0).logits, silenced(**inputs).logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(**inputs, rungs=1).logits, whole(**inputs).logits)
    cheap, full = model.cost.rung_macs(np.array([9]))[0]
    layer = layer_macs(model.shape, np.array([9]), hidden=48, heads=2, intermediate=32)
    dense = full_layer_macs(model.shape, np.array([9]))
    tail = model.shape.num_layers - 1
    assert full - cheap == tail * (dense - layer)
