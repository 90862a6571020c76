"""Reordering of a stock encoder's heads and feed-forward neurons, without a change of its function.

A narrow rung keeps the leading heads and neurons of a layer. Attention sums over heads and the feed-forward block over
neurons, so both may have any order if all weights before and after them follow it.

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
Tensors = Callable[[nn.Parameter], list[Tensor]]


@dataclass(frozen=True)
class Order:
    """The sources of the heads and neurons of every layer. `heads`: [n, N] long, where head `heads[layer, i]` moves to
    place i. `neurons`: [n, F] long, in the same form."""

    heads: Tensor
    neurons: Tensor


def leading_order(stock: Any, heads: Tensor, neurons: Tensor) -> Order:
    """Return the order of decreasing importance, from importances `heads` [n, N] and `neurons` [n, F].

    Depths that share a layer's weights (ALBERT) get one order, by the sum of their importances. If all layers share a
    table with an entry per head (MPNet's position bias), the heads of all layers get one order.
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
    """Return the depths at which each layer object runs, by its id."""
    found: dict[int, list[int]] = {}
    for depth, layer in enumerate(family.depth_order(stock)):
        found.setdefault(id(layer), []).append(depth)
    return found


def _itself(parameter: nn.Parameter) -> list[Tensor]:
    return [parameter]


@torch.no_grad()
def reorder(stock: Any, order: Order, tensors: Tensors = _itself) -> None:
    """Put the heads and neurons of `stock` into `order`, in place. Its logits do not change.

    `order` must be equal for depths that share weights, as in `leading_order`. `tensors` gives what is reordered of a
    parameter: itself, and what an optimizer keeps in its shape. Raise `ValueError`, and change nothing, if a layer has
    weights that cannot be reordered.
    """
    check_reorderable(stock)
    family = get_family(stock.config.model_type)
    size, layers = family.size(stock.config), family.depth_order(stock)
    for depth in (depths[0] for depths in _owners(family, stock).values()):
        _reorder_layer(family, layers[depth], size, order.heads[depth], order.neurons[depth], tensors)
    for table in family.head_tables(family.base_of(stock)):
        _permute_columns(table, order.heads[0], tensors)


def check_reorderable(stock: Any) -> None:
    """Raise `ValueError` if a layer has weights that `reorder` cannot put in order."""
    family = get_family(stock.config.model_type)
    size, layers = family.size(stock.config), family.depth_order(stock)
    for depths in _owners(family, stock).values():
        _check(family, layers[depths[0]], size)


def _reorder_layer(
    family: Family, layer: nn.Module, size: LayerSize, heads: Tensor, neurons: Tensor, tensors: Tensors
) -> None:
    head_size = size.hidden // size.heads
    dims = (heads[:, None] * head_size + torch.arange(head_size, device=heads.device)).flatten()
    for linear in _head_sources(family, layer):
        _permute_rows(linear, dims, tensors)
    parts = family.parts
    _permute_columns(layer.get_submodule(parts.attention_out), dims, tensors)
    _permute_rows(layer.get_submodule(parts.ffn_in), neurons, tensors)
    _permute_columns(layer.get_submodule(parts.ffn_out), neurons, tensors)


def _head_sources(family: Family, layer: nn.Module) -> list[nn.Linear]:
    """Return every Linear with outputs per head, which are the projections, also of relative positions."""
    others = {family.parts.attention_out, family.parts.ffn_in, family.parts.ffn_out}
    return [module for name, module in layer.named_modules() if isinstance(module, nn.Linear) and name not in others]


def _permute_rows(linear: Any, index: Tensor, tensors: Tensors) -> None:
    """Put the outputs of a Linear into the order of `index`. Each block of a fused Linear is reordered."""
    for parameter in (linear.weight, linear.bias):
        for tensor in [] if parameter is None else tensors(parameter):
            blocks = tensor.unflatten(0, (-1, len(index)))
            tensor.copy_(blocks[:, index.to(tensor.device)].flatten(0, 1))


def _permute_columns(module: Any, index: Tensor, tensors: Tensors) -> None:
    for tensor in tensors(module.weight):
        tensor.copy_(tensor[:, index.to(tensor.device)])


def _check(family: Family, layer: nn.Module, size: LayerSize) -> None:
    """Raise `ValueError` if a layer has a weight whose order is unknown."""
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
    """Replace the input of `part` (a name in `LayerParts`) at each depth by `visit(depth, value)` while the block runs.
    The calls of a layer that runs at several depths are counted to find the depth."""
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
