"""The routed model as inference runs it: fewer kernels, no copies that training needs, equal logits.

A layer is written out as its products: intermediate results are overwritten in place (allocation is dear on CPUs), no
mask is built where a batch has no padding, and a narrow rung's weights lie contiguous, query, key and value as one
product. The trunk and the top rung read the model's own weights. Families whose layers are of another kind run as they
are (`sharcs_pl.inference.plain`).

Dimensions: `B` batch, `L` tokens of a row, `T` real tokens of all samples, `D` hidden, `N` heads, `H` head size, `F`
feed-forward, `W` rungs, `C` labels; an index `i` marks the dimension at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import activations

from sharcs_pl.inference.layout import Layout
from sharcs_pl.inference.plain import PlainTail, PlainTrunk, RungTail
from sharcs_pl.models.layers import SlicedLinear
from sharcs_pl.models.parts import LayerParts
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.router import Router

Linear = nn.Linear | SlicedLinear
_IN_PLACE: dict[type, Callable[[Tensor], Tensor]] = {
    activations.GELUActivation: torch.ops.aten.gelu_.default,
    activations.NewGELUActivation: lambda x: torch.ops.aten.gelu_.default(x, approximate="tanh"),
    nn.ReLU: torch.relu_,
}


class Weights:
    """The weights of Linears as products read them: `shared` with the model, or `packed`, contiguous copies.

    Layers that share a Linear (ALBERT) share its copy. `nbytes` is the memory of the copies.
    """

    def __init__(self, packed: bool) -> None:
        self.packed = packed
        self.nbytes = 0
        self._copies: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def of(self, *linears: Linear) -> tuple[Tensor, Tensor]:
        """Return weight [out, in] and bias [out]; several Linears stand one below the other (packed only)."""
        if not self.packed:
            (linear,) = linears
            return linear.weight.detach(), _bias(linear)
        key = tuple(id(getattr(linear, "owner", linear)) for linear in linears)
        if key not in self._copies:
            weight = torch.cat([linear.weight.detach() for linear in linears])
            copies = weight.contiguous(), torch.cat([_bias(linear) for linear in linears])
            self._copies[key] = copies
            self.nbytes += sum(tensor.nbytes for tensor in copies)
        return self._copies[key]


def _bias(linear: Linear) -> Tensor:
    assert linear.bias is not None, "every supported layer has biases"
    return linear.bias.detach()


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


class FusedLayer(nn.Module):
    """A stock layer or a rung's view of one, for inference only."""

    def __init__(self, layer: nn.Module, parts: LayerParts, num_heads: int, weights: Weights) -> None:
        super().__init__()
        get: Any = layer.get_submodule
        attention = [get(name) for name in (parts.query, parts.key, parts.value)]
        groups = [attention] if weights.packed else [[linear] for linear in attention]
        self.num_heads = num_heads
        self.qkv = nn.ModuleList(Product(*weights.of(*group)) for group in groups)
        self.attention_out = Product(*weights.of(get(parts.attention_out)))
        self.attention_norm = get(parts.attention_norm)
        self.ffn_in = Product(*weights.of(get(parts.ffn_in)))
        self.ffn_out = Product(*weights.of(get(parts.ffn_out)))
        self.ffn_norm = get(parts.ffn_norm)
        activation: Callable[[Tensor], Tensor] = get(parts.activation)
        self.activation = _IN_PLACE.get(type(activation), activation)

    def forward(self, hidden: Tensor, bias: Tensor | None, layout: Layout) -> Tensor:
        """Run the layer on `hidden` [B, L, D_i] or [T, D_i], as `layout` says. `bias` is added to the attention scores:
        [B or 1, N_i or 1, L or 1, L], None where nothing is added."""
        query, key, value = self._heads(hidden, layout)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        context = layout.collect(context.transpose(1, 2).flatten(2))
        hidden = self.attention_norm(self.attention_out(context).add_(hidden))
        inner = self.activation(self.ffn_in(hidden))
        return self.ffn_norm(self.ffn_out(inner).add_(hidden))

    def _heads(self, hidden: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        """Return query, key and value, each [B, N_i, L, H]."""
        found = [layout.spread(product(hidden)) for product in self.qkv]
        parts = found[0].chunk(3, -1) if len(found) == 1 else found
        return tuple(part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)


class FusedTrunk(nn.Module):
    """The embeddings, the layers before the split, and the router, which decides in float32."""

    def __init__(self, model: SharcsForSequenceClassification, weights: Weights, router: Router | None) -> None:
        super().__init__()
        family = model.family
        layers = family.depth_order(model.encoder)[: model.split_layer]
        self.layers = nn.ModuleList(FusedLayer(x, family.parts, model.shape.num_heads, weights) for x in layers)
        self.router = router
        self.bias = AttentionBias(model, model.shape.num_heads)
        self._model = (model,)  # not a submodule of ours

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


class FusedTail(RungTail):
    """The layers of a rung, written out."""

    def __init__(self, model: SharcsForSequenceClassification, rung: int, weights: Weights) -> None:
        super().__init__(model, rung)
        (tail,) = self._tail
        parts = model.family.parts
        self.layers = nn.ModuleList(FusedLayer(x, parts, tail.size.heads, weights) for x in tail.layers)
        self.head_dense = Product(*weights.of(tail.head_dense))
        self.activation = model.family.head(model.encoder).activation
        self.output = model.family.head(model.encoder).output
        self.bias = AttentionBias(model, tail.size.heads)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Map [B, L, D_i] or [T, D_i] from `enter`, as `layout` says, to logits [B, C]."""
        bias = self.bias(hidden, layout.mask)
        for layer in self.layers:
            hidden = layer(hidden, bias, layout)
        return self.output(self.activation(self.head_dense(layout.first(hidden))))


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
        position = extras.get("position_bias")
        if attention_mask is None:
            return None if position is None else position.to(hidden.dtype)
        padding = hidden.new_zeros(attention_mask.shape).masked_fill(attention_mask == 0, float("-inf"))
        padding = padding[:, None, None, :]
        return padding if position is None else padding + position.to(hidden.dtype)


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
        shared, rungs = Weights(packed=False), range(len(model.ladder))
        narrow = [Weights(packed=pack_narrow) for _ in range(model.ladder.top)]
        if model.family.keys.written_out:
            self.trunk = FusedTrunk(model, shared, router)
            self.tails = nn.ModuleList(FusedTail(model, *each) for each in zip(rungs, [*narrow, shared], strict=True))
        else:
            self.trunk = PlainTrunk(model, router)
            self.tails = nn.ModuleList(PlainTail(model, rung) for rung in rungs)
        self.packed_bytes = sum(weights.nbytes for weights in narrow)
