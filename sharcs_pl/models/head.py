"""What a stock classification head consists of.

Dimensions: `B` batch, `L` tokens, `D` hidden, `C` labels; with an index `i`, the same at rung i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


def first_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """[B, L, D_i] -> [B, D_i]: what most heads read."""
    return hidden[:, 0]


def mean_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """[B, L, D_i] -> [B, D_i], the mean over real tokens."""
    return (hidden * attention_mask.unsqueeze(-1)).sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class HeadParts:
    """The stock head: one vector per text (`pool`), input dropout, dense D -> D, activation, dropout, output D -> C."""

    input_dropout: nn.Module
    dense: nn.Linear
    activation: Callable[[Tensor], Tensor]
    dropout: nn.Module
    output: nn.Linear
    pool: Callable[[Tensor, Tensor], Tensor] = first_token
