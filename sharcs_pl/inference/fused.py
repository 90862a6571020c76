"""The routed model as inference runs it: fewer kernels, no copies that training needs, equal logits.

A layer is written out as its products (`products`): no mask is built where a batch has no padding, and a narrow rung's
weights lie contiguous, query, key and value as one product. The trunk and the top rung read the model's own weights.
Families whose layers are of another kind run as they are (`plain`).

Dimensions: `B` batch, `L` tokens of a row, `T` real tokens of all samples, `D` hidden, `N` heads, `H` head size, `W`
rungs, `C` labels; an index `i` marks the dimension at rung i.
"""

from __future__ import annotations

import copy
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import GELUActivation, NewGELUActivation

from sharcs_pl.inference.layout import Layout
from sharcs_pl.inference.plain import PlainTail, PlainTrunk
from sharcs_pl.inference.products import Linear, WeightStore, WrittenTail, bias_of, owner_of, written_layers
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.router import Router


def _gelu_(x: Tensor) -> Tensor:
    return torch.ops.aten.gelu_.default(x)


def _tanh_gelu_(x: Tensor) -> Tensor:
    return torch.ops.aten.gelu_.default(x, approximate="tanh")


class ModelWeights(WeightStore):
    """The weights of Linears as products read them: shared with the model, or `stacked`, contiguous copies.

    Layers that share a Linear (ALBERT) share its copy. `nbytes` is the memory of the copies.
    """

    activations: ClassVar = {
        GELUActivation: _gelu_,
        NewGELUActivation: _tanh_gelu_,
        nn.ReLU: torch.relu_,
    }

    def __init__(self, stacked: bool) -> None:
        self.stacked = stacked
        self.nbytes = 0
        self._copies: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def product(self, *linears: Linear) -> Product:
        """Return the product with the weights of a Linear, or of several that stand one below the other."""
        key = tuple(id(owner_of(linear)) for linear in linears)
        if not self.stacked:
            (linear,) = linears
            return Product(linear.weight.detach(), bias_of(linear))
        if key not in self._copies:
            weight = torch.cat([linear.weight.detach() for linear in linears])
            copies = weight.contiguous(), torch.cat([bias_of(linear) for linear in linears])
            self._copies[key] = copies
            self.nbytes += sum(tensor.nbytes for tensor in copies)
        return Product(*self._copies[key])

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attend with a bias of [B or 1, N_i or 1, L or 1, L], None where nothing is added to the scores."""
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class Product(nn.Module):
    """The product x W^T + b, [.., in] -> [.., out]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class FusedTrunk(PlainTrunk):
    """The embeddings, the layers before the split, and the router, which decides in float32."""

    def __init__(self, model: SharcsForSequenceClassification, weights: ModelWeights, router: Router | None) -> None:
        super().__init__(model, router)
        layers = model.family.depth_order(model.encoder)[: model.split_layer]
        self.layers = written_layers(model, layers, weights)
        self.bias = AttentionBias(model, model.shape.num_heads)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, layout: Layout, route: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Map [B, L] long each to hidden [B, L, D] or [T, D], as `layout` says, and router logits [B, W] float32 (None
        without a router, or unless `route`)."""
        (model,) = self._model
        rows = model.family.embed(model.family.base_of(model.encoder), input_ids, token_type_ids)
        bias = self.bias(rows, layout.mask)
        hidden = layout.collect(rows)
        for layer in self.layers:
            hidden = layer(hidden, bias, layout)
        return hidden, None if self.router is None or not route else self._route(layout.mean(hidden.float()))

    def _route(self, pooled: Tensor) -> Tensor:
        assert self.router is not None
        return self.router.output(F.relu(self.router.dense(pooled)))


def _in_float32(router: Router | None) -> Router | None:
    """Return the router itself, or a copy where its weights are of another precision, since a text's rung is a
    comparison of two numbers that are often close."""
    if router is None or router.dense.weight.dtype == torch.float32:
        return router
    return copy.deepcopy(router).float()


class FusedTail(WrittenTail):
    """The layers and the head of a rung, with the bias of its attention."""

    def __init__(self, model: SharcsForSequenceClassification, rung: int, weights: ModelWeights) -> None:
        super().__init__(model, rung, weights)
        (tail,) = self._tail
        self.bias = AttentionBias(model, tail.size.heads)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Map [B, L, D_i] or [T, D_i] from `enter`, as `layout` says, to logits [B, C]."""
        return self.answer(hidden, self.bias(hidden, layout.mask), layout)


class AttentionBias(nn.Module):
    """The bias of the attention scores: minus infinity at padding, and MPNet's position bias."""

    def __init__(self, model: SharcsForSequenceClassification, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self._model = (model,)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """Map [B, L, any] or, with a mask, [T, any]; [B, L] to [B, N_i or 1, L or 1, L]; None without a bias."""
        (model,) = self._model
        rows = hidden if attention_mask is None else hidden.new_empty(*attention_mask.shape, 1)
        extras = model.family.layer_extras(model.family.base_of(model.encoder), rows, self.num_heads)
        biases = [extras["position_bias"].to(hidden.dtype)] if extras else []
        if attention_mask is not None:
            padding = hidden.new_zeros(attention_mask.shape).masked_fill(attention_mask == 0, float("-inf"))
            biases.append(padding[:, None, None])
        return reduce(torch.add, biases) if biases else None


class FusedModel(nn.Module):
    """The trunk and tails of a routed model for inference. The model's weights must not be replaced afterwards.

    Layers are written out where the family's are of that kind, else they run as they are, and nothing is packed. With
    `pack_narrow` False the narrow rungs read slices of the shared weights: no copy (`packed_bytes` is 0), slower.
    `router` takes the place of the model's own, of float32 weights; a router of other weights is copied into them.
    """

    def __init__(
        self, model: SharcsForSequenceClassification, pack_narrow: bool = True, router: Router | None = None
    ) -> None:
        super().__init__()
        router = _in_float32(router or model.router)
        shared, rungs = ModelWeights(stacked=False), range(len(model.ladder))
        narrow = [ModelWeights(stacked=pack_narrow) for _ in range(model.ladder.top)]
        if model.family.keys.written_out:
            self.trunk = FusedTrunk(model, shared, router)
            self.tails = nn.ModuleList(FusedTail(model, *each) for each in zip(rungs, [*narrow, shared], strict=True))
        else:
            self.trunk = PlainTrunk(model, router)
            self.tails = nn.ModuleList(PlainTail(model, rung) for rung in rungs)
        self.packed_bytes = sum(weights.nbytes for weights in narrow)
