"""Routed models of tiny stock ones, with private parameters that are all different."""

from __future__ import annotations

from typing import Any

import torch

from sharcs_pl.models.routed import SharcsForSequenceClassification

MIXED = torch.tensor([2, 0, 1, 0, 2])
"""A rung for each sample of the fixture `batch`."""


def surgery(source: Any, **values: Any) -> SharcsForSequenceClassification:
    torch.manual_seed(5)
    model = SharcsForSequenceClassification.from_encoder(
        source, **{"widths": [0.25, 0.5, 1], "split_layer": 1, **values}
    )
    with torch.no_grad():
        for parameter in (*model.tails.parameters(), *([] if model.router is None else model.router.parameters())):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model
