"""Another order of a stock encoder's heads and feed-forward neurons, its function unchanged.

A narrow rung keeps the leading heads and neurons of a layer. Attention sums over heads and the feed-forward block over
neurons, so both may stand in any order as long as all that feeds and reads them follows.

Dimensions: `n` layers, `N` heads, `H` head size, `F` feed-forward neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from sharcs_pl.models.families import Family, get_family
from sharcs_pl.models.layers import LayerSize

Visit = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Order:
    """Where each head and neuron of every layer comes from: `heads` [n, N] and `neurons` [n, F], long; place i of a
    layer is taken by the head `heads[layer, i]`."""

    heads: Tensor
    neurons: Tensor


def leading_order(stock: Any, heads: Tensor, neurons: Tensor) -> Order:
    """The order in which the most important come first, from importances `heads` [n, N] and `neurons` [n, F].

    Depths that share one layer's weights (ALBERT) get one order, by the sum of their importances; where all layers
    share a table with an entry per head (MPNet's position bias), the heads get one order for all.
    """
    family = get_family(stock.config.model_type)
    groups = list(_owners(family, stock).values())
    everywhere = [list(range(len(heads)))] if family.head_tables(family.base_of(stock)) else groups
    return Order(_ranked(heads, everywhere), _ranked(neurons, groups))


def _ranked(importance: Tensor, groups: list[list[int]]) -> Tensor:
    summed = importance.clone()
    for depths in groups:
        summed[depths] = importance[depths].sum(0)
    return summed.argsort(dim=-1, descending=True, stable=True)


def _owners(family: Family, stock: Any) -> dict[int, list[int]]:
    """The depths at which each layer object runs, by its id."""
    found: dict[int, list[int]] = {}
    for depth, layer in enumerate(family.depth_order(stock)):
        found.setdefault(id(layer), []).append(depth)
    return found


@torch.no_grad()
def reorder(stock: Any, order: Order) -> None:
    """Put the heads and neurons of `stock` into `order`, in place; its logits stay what they are.

    `order` must be the same for depths that share weights, as `leading_order` makes it. `ValueError` for an
    architecture with weights in a layer that this does not know how to follow; nothing is changed then.
    """
    family = get_family(stock.config.model_type)
    size, layers = family.size(stock.config), family.depth_order(stock)
    firsts = [depths[0] for depths in _owners(family, stock).values()]
    for depth in firsts:
        _check(family, layers[depth], size)
    for depth in firsts:
        _reorder_layer(family, layers[depth], size, order.heads[depth], order.neurons[depth])
    for table in family.head_tables(family.base_of(stock)):
        table.weight.copy_(table.weight[:, order.heads[0]])


def _reorder_layer(family: Family, layer: nn.Module, size: LayerSize, heads: Tensor, neurons: Tensor) -> None:
    head_size = size.hidden // size.heads
    dims = (heads[:, None] * head_size + torch.arange(head_size, device=heads.device)).flatten()
    for linear in _head_sources(family, layer):
        _permute_rows(linear, dims)
    parts = family.parts
    _permute_columns(layer.get_submodule(parts.attention_out), dims)
    _permute_rows(layer.get_submodule(parts.ffn_in), neurons)
    _permute_columns(layer.get_submodule(parts.ffn_out), neurons)


def _head_sources(family: Family, layer: nn.Module) -> list[nn.Linear]:
    """Every Linear that gives a value per head: the projections, those of relative positions among them."""
    others = {family.parts.attention_out, family.parts.ffn_in, family.parts.ffn_out}
    return [module for name, module in layer.named_modules() if isinstance(module, nn.Linear) and name not in others]


def _permute_rows(linear: Any, index: Tensor) -> None:
    """Outputs in the order of `index`; a fused Linear gives several blocks of them, each is put in order."""
    for parameter in (linear.weight, linear.bias):
        if parameter is not None:
            blocks = parameter.unflatten(0, (-1, len(index)))
            parameter.copy_(blocks[:, index.to(parameter.device)].flatten(0, 1))


def _permute_columns(linear: Any, index: Tensor) -> None:
    linear.weight.copy_(linear.weight[:, index.to(linear.weight.device)])


def _check(family: Family, layer: nn.Module, size: LayerSize) -> None:
    """Every weight of the layer must be one of those whose place in the order is known."""
    parts, sources = family.parts, _head_sources(family, layer)
    hidden, ffn = size.hidden, size.ffn
    named: list[Any] = [layer.get_submodule(name) for name in (parts.attention_out, parts.ffn_in, parts.ffn_out)]
    out, first, last = named
    linears = [*sources, *named]
    fits = all(linear.out_features % hidden == 0 for linear in sources) and out.in_features == hidden
    fits &= first.out_features % ffn == 0 and last.in_features == ffn
    known = {id(parameter) for linear in linears for parameter in linear.parameters()}
    norms = [module for module in layer.modules() if type(module).__name__.endswith("Norm")]
    known |= {id(parameter) for norm in norms for parameter in norm.parameters()}
    strange = [name for name, parameter in layer.named_parameters() if id(parameter) not in known]
    if strange or not fits:
        what = f"its layers have {strange[0]}" if strange else "its projections are of another shape"
        raise ValueError(f"{family.model_type} cannot be reordered: {what}")


@contextmanager
def watching(stock: Any, part: str, visit: Visit) -> Iterator[None]:
    """While the block runs, what enters `part` (a name of `LayerParts`) of the layer at each depth is replaced by
    `visit(depth, value)`. A layer that runs at several depths is told apart by counting its calls."""
    family = get_family(stock.config.model_type)
    layers = family.depth_order(stock)
    handles = []
    for depths in _owners(family, stock).values():
        turn = cycle(depths)
        module = layers[depths[0]].get_submodule(getattr(family.parts, part))
        hook = lambda _module, inputs, turn=turn: (visit(next(turn), inputs[0]), *inputs[1:])  # noqa: E731
        handles.append(module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
