"""The tails of a routed model: what each rung runs after the trunk, over weights that all of them share.

Dimensions: `D` hidden; with an index `i`, the same at rung i.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from sharcs_pl.core.flops import CostModel
from sharcs_pl.models.configuration import SharcsConfig
from sharcs_pl.models.families import get_family
from sharcs_pl.models.layers import LayerSize, SlicedLinear, Tail, make_reduction, private_norm


def make_tails(config: SharcsConfig, stock: Any, cost: CostModel) -> nn.ModuleList:
    """One tail for each rung, narrow first."""
    return nn.ModuleList(_make_tail(config, stock, cost, rung) for rung in range(len(cost.ladder)))


def _make_tail(config: SharcsConfig, stock: Any, cost: CostModel, rung: int) -> Tail:
    family = get_family(config.encoder["model_type"])
    layers, full = family.depth_order(stock), family.size(stock.config)
    cut = LayerSize(*(cost.ladder.size(rung, whole) for whole in (full.hidden, full.heads, full.ffn)))
    size, after = replace(cut, hidden=cost.hidden_size(rung)), layers[config.split_layer :]
    norm = _norm_after_cut(config, layers[config.split_layer - 1], size.hidden, full.hidden)
    reduction = make_reduction(config.reduction, full.hidden, size.hidden)
    dense = SlicedLinear(family.head(stock).dense, size.hidden, full.hidden)
    outer = family.outer_norms(family.base_of(stock))
    if cut == full:
        return Tail(size, reduction, norm, dense, stock=after, stock_outer=outer)
    narrow = family.resized(stock.config, cut)
    views = [family.view(layer, narrow, config.norm_init, config.cut) for layer in after]
    own = {name: private_norm(owner, size.hidden, config.norm_init) for name, owner in outer.items()}
    return Tail(size, reduction, norm, dense, views, outer=own)


def _norm_after_cut(config: SharcsConfig, last: nn.Module, size: int, full: int) -> nn.Module:
    """The rung's norm of the trunk's output, started from that of its `last` layer. None where all hidden dims stay,
    unless asked for; and none where the stock layers normalise what they read: their own first norm then follows the
    cut."""
    family = get_family(config.encoder["model_type"])
    if family.keys.pre_norm or (size == full and not config.top_rung_norm):
        return nn.Identity()
    norm = last.get_submodule(family.parts.ffn_norm)
    assert isinstance(norm, nn.LayerNorm)
    return private_norm(norm, size, config.norm_init)
