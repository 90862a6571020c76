"""The tails of a routed model, the parts of the rungs after the trunk, which share their weights.

Dimensions: `D` hidden; an index `i` marks the size at rung i.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from sharcs_pl.core.flops import CostModel, EncoderShape
from sharcs_pl.core.widths import WidthLadder, check_split
from sharcs_pl.models.configuration import SharcsConfig
from sharcs_pl.models.encoder_sizes import check_norm_after_cut, check_skimmable
from sharcs_pl.models.families import Family, get_family
from sharcs_pl.models.layers import NORM_INITS, LayerSize, Tail, make_reduction, private_norm
from sharcs_pl.models.slices import SlicedLinear


def make_tails(config: SharcsConfig, stock: Any, cost: CostModel) -> nn.ModuleList:
    """Return one tail for each rung, narrow first."""
    return nn.ModuleList(_make_tail(config, stock, cost, rung) for rung in range(len(cost.ladder)))


def _make_tail(config: SharcsConfig, stock: Any, cost: CostModel, rung: int) -> Tail:
    family = get_family(config.encoder["model_type"])
    layers, full = family.depth_order(stock), family.size(stock.config)
    cut = LayerSize(*(cost.ladder.size(rung, whole) for whole in (full.hidden, full.heads, full.ffn)))
    size, after = replace(cut, hidden=cost.hidden_size(rung)), layers[config.split_layer :]
    norm = _norm_after_cut(config, layers[config.split_layer - 1], size.hidden, full.hidden)
    reduction = make_reduction(config.reduction, full.hidden, size.hidden)
    head = family.head(stock)
    place = next(name for name, module in stock.named_modules() if module is head.dense)
    dense = SlicedLinear(stock, place, size.hidden, full.hidden)
    outer = family.outer_norms(family.base_of(stock))
    if cut == full:
        return Tail(size, reduction, norm, dense, stock=after, stock_outer=outer)
    narrow = family.resized(stock.config, cut)
    views = [family.view(layer, narrow, config.norm_init, config.cut) for layer in after]
    own = {name: private_norm(owner, size.hidden, config.norm_init) for name, owner in outer.items()}
    return Tail(size, reduction, norm, dense, views, outer=own)


def _norm_after_cut(config: SharcsConfig, last: nn.Module, size: int, full: int) -> nn.Module:
    """Return the rung's norm of the trunk's output, initialised from the norm of its `last` layer. There is no norm if
    all hidden dims stay, unless requested, or if stock layers normalise their input, so that their first norm follows
    the cut."""
    family = get_family(config.encoder["model_type"])
    if family.keys.pre_norm or (size == full and not config.top_rung_norm):
        return nn.Identity()
    norm = last.get_submodule(family.parts.ffn_norm)
    assert isinstance(norm, nn.LayerNorm)
    return private_norm(norm, size, config.norm_init)


def cost_of(config: SharcsConfig, shape: EncoderShape, ladder: WidthLadder, has_router: bool) -> CostModel:
    """Return the multiply-adds of a model with the cuts of its config."""
    return CostModel(
        shape=shape,
        ladder=ladder,
        split_layer=config.split_layer,
        router_hidden_size=config.router_hidden_size,
        reduction=config.reduction,
        has_router=has_router,
        cut=config.cut,
        skim=config.skim,
    )


def check_cut(config: SharcsConfig, family: Family, shape: EncoderShape, ladder: WidthLadder) -> None:
    """Raise `ValueError` naming the config key if an encoder does not allow the cuts of its config."""
    if config.norm_init not in NORM_INITS:
        raise ValueError(f"width.norm_init: {config.norm_init!r} is none of {', '.join(NORM_INITS)}")
    check_split(config.split_layer, shape.num_layers)
    ladder.check(
        hidden_size=shape.hidden_size,
        num_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        reduction=config.reduction,
    )
    check_norm_after_cut(config.top_rung_norm, family.keys.pre_norm)
    if config.skim:
        check_skimmable(family.model_type)


def top_norms(family: Family, stock: Any, split_layer: int) -> list[nn.Module]:
    """Return the stock norms that only the tail of the top rung runs: the norms of layers after the split that no layer
    before it shares, and the encoder's last norm."""
    layers, outer = family.depth_order(stock), family.outer_norms(family.base_of(stock))
    shared = {id(layer) for layer in layers[:split_layer]}
    tops = [layer for layer in layers[split_layer:] if id(layer) not in shared]
    norms = [module for layer in tops for module in layer.modules() if isinstance(module, nn.LayerNorm)]
    return [*norms, *(norm for name, norm in outer.items() if name == "final")]
