"""Rows for transformers' Trainer, three of four of which are learned in a few steps, and bounds that part them."""

from __future__ import annotations

from typing import Any

import torch

BOUNDS = [(0.5, 1.0), (0.0, 0.5)]


def rows(number: int = 24) -> list[dict[str, Any]]:
    """Texts of one length whose first token tells the class, but for every fourth, which is wrong."""
    ids = torch.randint(5, 50, (number, 6), generator=torch.Generator().manual_seed(0)).tolist()
    return [{"input_ids": [10 + i % 2, *x], "labels": i % 2 if i % 4 else 1 - i % 2} for i, x in enumerate(ids)]
