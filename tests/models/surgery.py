"""Routed models of tiny stock ones, with private parameters that are all different."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from sharcs_pl.core.cascade import first_rungs
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.families import get_family
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.skim import SkimForSequenceClassification

MIXED = torch.tensor([2, 0, 1, 0, 2])
"""A rung for each sample of the fixture `batch`."""

KINDS: dict[str, Any] = {
    "routed": partial(SharcsForSequenceClassification.from_encoder, widths=[0.5, 1], split_layer=1),
    "exits": partial(ExitsForSequenceClassification.from_encoder, exits=[1, 3], rule="confidence"),
    "skim": SkimForSequenceClassification.from_encoder,
}
"""A model of each class, made of a stock one."""


def surgery(source: Any, **values: Any) -> SharcsForSequenceClassification:
    torch.manual_seed(5)
    model = SharcsForSequenceClassification.from_encoder(
        source, **{"widths": [0.25, 0.5, 1], "split_layer": 1, **values}
    )
    with torch.no_grad():
        for parameter in (*model.tails.parameters(), *([] if model.router is None else model.router.parameters())):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def begins(model: SharcsForSequenceClassification, router_logits: torch.Tensor, starts: Any = None) -> torch.Tensor:
    """The rung that each sample begins at by the model's rule, or by thresholds."""
    rule = model.config.decision()
    rule = rule if starts is None else replace(rule, starts=tuple(starts))
    return first_rungs(rule, router_logits, len(router_logits), model.ladder.top, torch)


def random_importance(stock: Any, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    family = get_family(stock.config.model_type)
    size, depths = family.size(stock.config), len(family.depth_order(stock))
    generator = torch.Generator().manual_seed(seed)
    heads = torch.rand(depths, size.heads, generator=generator)
    return heads, torch.rand(depths, size.ffn, generator=generator)
