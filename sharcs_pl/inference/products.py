"""A rung's layers and head, written out as their products from the names of a stock layer's parts.

The fast path (`fused`) and the graph for exporters (`graph`) differ in their
`WeightStore`. Intermediate results are overwritten in place, since allocation is dear on CPUs.

Dimensions: `B` batch, `L` tokens of a row, `T` real tokens of all samples, `D` hidden, `N` heads, `H` head size, `C`
labels; an index `i` marks the dimension at rung i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from sharcs_pl.inference.layout import Layout
from sharcs_pl.inference.plain import RungTail
from sharcs_pl.models.parts import LayerParts
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.slices import SlicedLinear, is_plain

Linear = nn.Linear | SlicedLinear


class WeightStore:
    """The place of a layer's weights, and the functions between its products.

    `stacked`: query, key and value are one product. `activations` take the place of stock ones by their type.
    """

    stacked = False
    activations: Mapping[type, Callable[[Tensor], Tensor]] = {}

    def product(self, *linears: Linear) -> nn.Module:
        """Return x W^T + b, [.., in] -> [.., out]; several Linears stand one below the other (`stacked` only)."""
        raise NotImplementedError

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Any) -> Tensor:
        """Map [B, N_i, L, H] each, and the bias of the scores, to the context [B, N_i, L, H]."""
        raise NotImplementedError


def owner_of(linear: Linear) -> nn.Linear:
    """Return the Linear that holds the weight. Raise `ValueError` where another module is in its place."""
    owner = linear.owner if isinstance(linear, SlicedLinear) else linear
    if not is_plain(owner):
        place, mend = _what_is_there(owner)
        raise ValueError(f"{place}, where the weights of a float model are read; {mend}, or call the model itself")
    return owner


def _what_is_there(owner: nn.Module) -> tuple[str, str]:
    """Return what is in the place of a plain Linear, and how a plain one gets there."""
    weight = getattr(owner, "weight", None)
    if not isinstance(owner, nn.Linear) or type(owner).forward is not nn.Linear.forward:
        return f"a {_name(owner)} is in the place of a Linear", "merge it into the model first (peft: merge_and_unload)"
    if hasattr(weight, "__tensor_flatten__"):
        return f"a Linear has a {_name(weight)} as its weight", "see `sharcs export format=parts precision=int8`"
    return "a hook on a Linear makes or moves its weight at each call", "remove it first"


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def bias_of(linear: Linear) -> Tensor:
    """Return the bias [out], which every supported layer has."""
    assert linear.bias is not None
    return linear.bias.detach()


def linears_of(layer: nn.Module, parts: LayerParts) -> list[Any]:
    """Return the six Linears of a layer, in the order in which they run."""
    names = (parts.query, parts.key, parts.value, parts.attention_out, parts.ffn_in, parts.ffn_out)
    return [attrgetter(name)(layer) for name in names]


class WrittenLayer(nn.Module):
    """A stock layer, or a rung's view of one, for inference only."""

    def __init__(self, layer: nn.Module, parts: LayerParts, head_size: int, store: WeightStore) -> None:
        super().__init__()
        *projections, attention_out, ffn_in, ffn_out = linears_of(layer, parts)
        groups = [projections] if store.stacked else [[linear] for linear in projections]
        self.heads, self.head_size = projections[0].out_features // head_size, head_size
        self.qkv = nn.ModuleList(store.product(*group) for group in groups)
        self.attend = store.attend
        self.attention_out = store.product(attention_out)
        self.attention_norm = layer.get_submodule(parts.attention_norm)
        self.ffn_in, self.ffn_out = store.product(ffn_in), store.product(ffn_out)
        self.ffn_norm = layer.get_submodule(parts.ffn_norm)
        activation: Callable[[Tensor], Tensor] = layer.get_submodule(parts.activation)
        self.activation = store.activations.get(type(activation), activation)

    def forward(self, hidden: Tensor, bias: Any, layout: Layout) -> Tensor:
        """Run the layer on `hidden` [B, L, D_i] or [T, D_i], as `layout` says. `bias` goes to `attend`."""
        query, key, value = self._heads(hidden, layout)
        context = layout.collect(self.attend(query, key, value, bias).transpose(1, 2).flatten(2))
        hidden = self.attention_norm(self.attention_out(context).add_(hidden))
        inner = self.activation(self.ffn_in(hidden))
        return self.ffn_norm(self.ffn_out(inner).add_(hidden))

    def _heads(self, hidden: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        """Return query, key and value, each [B, N_i, L, H]. No size is left to infer, since there may be no row."""
        found = [layout.spread(product(hidden)) for product in self.qkv]
        parts = found[0].chunk(3, -1) if len(found) == 1 else found
        return tuple(part.unflatten(-1, (self.heads, self.head_size)).transpose(1, 2) for part in parts)


def written_layers(
    model: SharcsForSequenceClassification, layers: Iterable[nn.Module], store: WeightStore
) -> nn.ModuleList:
    """Return stock layers or views of a model, written out."""
    parts, head_size = model.family.parts, model.shape.head_size
    return nn.ModuleList(WrittenLayer(layer, parts, head_size, store) for layer in layers)


class WrittenTail(RungTail):
    """The layers and the head of a rung, written out."""

    def __init__(self, model: SharcsForSequenceClassification, rung: int, store: WeightStore) -> None:
        super().__init__(model, rung)
        (tail,), head = self._tail, model.family.head(model.encoder)
        self.layers = written_layers(model, tail.layers, store)
        self.dense = store.product(tail.head_dense)
        self.activation, self.output = head.activation, head.output

    def answer(self, hidden: Tensor, bias: Any, layout: Layout) -> Tensor:
        """Map [B, L, D_i] or [T, D_i] from `enter`, as `layout` says, to logits [B, C]."""
        for layer in self.layers:
            hidden = layer(hidden, bias, layout)
        return self.output(self.activation(self.dense(layout.first(hidden))))
