"""What a stock classification head consists of, and heads like it after other layers.

Dimensions: `B` batch, `L` tokens, `D` hidden, `C` labels; with an index `i`, the same at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

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


class ExitHead(nn.Module):
    """The head of one exit: the stock head's layers again, or one Linear. `final`: the encoder's norm after its last
    layer, where it has one; every exit has its own."""

    def __init__(self, stock: HeadParts, linear: bool, final: nn.Module | None) -> None:
        super().__init__()
        self.norm = nn.Identity() if final is None else copy.deepcopy(final)
        self.dense = None if linear else copy.deepcopy(stock.dense)
        self.activation = copy.deepcopy(stock.activation)
        self.output = nn.Linear(stock.dense.in_features, stock.output.out_features)

    def start(self, stock: HeadParts, final: nn.Module | None) -> None:
        """Its layers as the stock head has them, but the output."""
        for own, owner in ((self.norm, final), (self.dense, stock.dense), (self.activation, stock.activation)):
            if isinstance(own, nn.Module) and isinstance(owner, nn.Module):
                own.load_state_dict(owner.state_dict())

    def forward(self, pooled: Tensor, stock: HeadParts) -> Tensor:
        """[b, D] -> [b, C]."""
        if self.dense is None:
            return self.output(stock.dropout(pooled))
        own = replace(stock, dense=self.dense, activation=self.activation, output=self.output)
        return run_head(own, pooled)


def run_head(head: HeadParts, pooled: Tensor) -> Tensor:
    """A head on one vector per text, [b, D] -> [b, C]."""
    return head.output(head.dropout(head.activation(head.dense(head.input_dropout(pooled)))))
