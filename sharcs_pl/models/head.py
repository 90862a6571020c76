"""The parts of a stock classification head, and similar heads after other layers.

Dimensions: `B` batch, `L` tokens, `D` hidden, `C` labels; an index `i` marks the size at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn


def first_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the state of the first token, which most heads read, [B, L, D_i] -> [B, D_i]."""
    return hidden[:, 0]


def mean_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean over real tokens, [B, L, D_i] -> [B, D_i]."""
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
    """The head of an exit, a copy of the stock head's layers or a Linear. `final`: this exit's copy of the encoder's
    norm after its last layer, if any."""

    def __init__(self, stock: HeadParts, linear: bool, final: nn.Module | None) -> None:
        super().__init__()
        self.norm = nn.Identity() if final is None else copy.deepcopy(final)
        self.dense = None if linear else copy.deepcopy(stock.dense)
        self.activation = copy.deepcopy(stock.activation)
        self.output = nn.Linear(stock.dense.in_features, stock.output.out_features)

    def start(self, stock: HeadParts, final: nn.Module | None) -> None:
        """Copy the layers of the stock head except its output."""
        for own, owner in ((self.norm, final), (self.dense, stock.dense), (self.activation, stock.activation)):
            if isinstance(own, nn.Module) and isinstance(owner, nn.Module):
                own.load_state_dict(owner.state_dict())

    def forward(self, pooled: Tensor, stock: HeadParts) -> Tensor:
        """Return the logits, [b, D] -> [b, C]."""
        if self.dense is None:
            return self.output(stock.dropout(pooled))
        own = replace(stock, dense=self.dense, activation=self.activation, output=self.output)
        return run_head(own, pooled)


def run_head(head: HeadParts, pooled: Tensor) -> Tensor:
    """Run a head on one vector per text, [b, D] -> [b, C]."""
    return head.output(head.dropout(head.activation(head.dense(head.input_dropout(pooled)))))
