"""The common part of the ladders and costs of early exits and token skimming, whose rungs all run at full width."""

from __future__ import annotations

import numpy as np

from sharcs_pl.core.flops import EncoderShape, stock_macs
from sharcs_pl.core.ladder import Rung


class FullWidthLadder:
    """A ladder by the names of its rungs."""

    def rungs(self) -> list[Rung]:
        """Return the names of all rungs."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.rungs())

    @property
    def top(self) -> int:
        """The index of the last rung, the whole stock model."""
        return len(self) - 1

    def labels(self) -> list[str]:
        """Return the labels of all rungs, such as "layer_2" or "keep_0.5", for tables and files."""
        return [rung.label for rung in self.rungs()]


class FullWidthCost:
    """The cost of an encoder without a cascade: an exit pays for the earlier ones, and thresholds have none."""

    shape: EncoderShape

    def dense_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs of the stock model, int64 [B]. `lengths`: tokens, int [B]."""
        return stock_macs(self.shape, lengths)

    def tried_macs(self, lengths: np.ndarray) -> None:
        """Return None, since there is no cascade to cost."""
