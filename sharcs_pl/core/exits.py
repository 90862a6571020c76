"""The ladder and the cost of early exits. Each exit is a rung.

Legend: `B` batch, `D` hidden, `C` classes, `E` exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sharcs_pl.core.flops import EncoderShape, embedding_macs, full_layer_macs, head_macs, stock_macs
from sharcs_pl.core.ladder import Ladder, Rung


@dataclass(frozen=True)
class ExitLadder(Ladder):
    """The layers after which a sample may stop, counted from 1, in increasing order up to the encoder's last layer."""

    layers: tuple[int, ...]
    kind: ClassVar[str] = "exit"
    control: ClassVar[str] = "exit"

    @classmethod
    def of(cls, exits: Sequence[int] | None, num_layers: int) -> ExitLadder:
        """Build a ladder, for None with an exit after every layer. Raise ``ValueError`` naming ``method.exits`` unless
        the exits increase and end with the last layer."""
        layers = tuple(range(1, num_layers + 1)) if exits is None else tuple(exits)
        if not layers or layers[-1] != num_layers or layers[0] < 1 or list(layers) != sorted(set(layers)):
            raise ValueError(f"method.exits={list(layers)} must increase and end with {num_layers}, the last layer")
        return cls(layers)

    def rungs(self) -> list[Rung]:
        """Return the names of all exits."""
        return [Rung(f"layer_{x}", f"exit after layer {x}", f"after layer {x}", layer=x) for x in self.layers]


@dataclass(frozen=True)
class ExitCost:
    """MACs per sample of an encoder with early exits. A sample pays for its layers and for every head on the way.

    `linear`: each early head is one Linear D -> C, otherwise D -> D -> C. `learned`: a Linear D -> 1 at each exit but
    the last decides whether to stop.
    """

    shape: EncoderShape
    ladder: ExitLadder
    linear: bool = False
    learned: bool = False
    has_router: bool = False

    def rung_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs up to and including each exit, int64 [B, E]. `lengths`: tokens, int [B]."""
        depth = np.array(self.ladder.layers)
        layers = full_layer_macs(self.shape, lengths)[:, None] * depth
        return embedding_macs(self.shape, lengths)[:, None] + layers + np.cumsum(self.exit_macs())

    def exit_macs(self) -> list[int]:
        """Return the MACs of each exit's head and stop decision, E values. The last head is the encoder's own."""
        size, whole = self.shape.hidden_size, head_macs(self.shape, self.shape.hidden_size)
        own = (size * self.shape.num_labels if self.linear else whole) + size * self.learned
        return [own] * self.ladder.top + [whole]

    def dense_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs of the stock model, int64 [B]."""
        return stock_macs(self.shape, lengths)
