"""The ladder and the cost of token skimming. Each rung is a threshold on a token's probability to be kept.

Legend: `B` batch, `L` tokens, `D` hidden, `K` layers, `W` thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sharcs_pl.core.flops import EncoderShape, embedding_macs, full_layer_macs, head_macs, predictor_macs, stock_macs
from sharcs_pl.core.ladder import Ladder, Rung

THRESHOLDS = (0.95, 0.8, 0.5, 0.2, 0.0)  # the last keeps every token
TRAINED_THRESHOLD = 2  # the rung of 0.5, the threshold of training


@dataclass(frozen=True)
class SkimLadder(Ladder):
    """Decreasing thresholds, from the one that keeps the fewest tokens to 0, which keeps all."""

    thresholds: tuple[float, ...] = THRESHOLDS
    kind: ClassVar[str] = "threshold"
    control: ClassVar[str] = "exit"

    def rungs(self) -> list[Rung]:
        """Return the names of all thresholds."""
        return [Rung(f"keep_{x:g}", f"tokens kept from {x:g}", f"at threshold {x:g}", keep=x) for x in self.thresholds]


@dataclass(frozen=True)
class SkimCost:
    """MACs per sample of an encoder that skims. `predictor_size`: hidden units of each layer's predictor."""

    shape: EncoderShape
    ladder: SkimLadder
    predictor_size: int
    has_router: bool = False

    def macs(self, lengths: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the MACs of a pass, int64 [B]. `lengths`: input tokens [B]. `kept`: tokens in each layer [B, K]. Every
        layer's predictor (D -> units -> 1) reads the tokens of the layer below."""
        entering = np.concatenate([np.asarray(lengths)[:, None], kept[:, :-1]], axis=1).sum(1)
        predictors = predictor_macs(self.shape, entering, self.predictor_size)
        layers = sum(full_layer_macs(self.shape, column) for column in kept.T)
        return embedding_macs(self.shape, lengths) + predictors + layers + head_macs(self.shape, self.shape.hidden_size)

    def rung_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the highest possible MACs at each threshold, with no token skipped, int64 [B, W]."""
        kept = np.repeat(np.asarray(lengths)[:, None], self.shape.num_layers, axis=1)
        return np.repeat(self.macs(lengths, kept)[:, None], len(self.ladder), axis=1)

    def dense_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs of the stock model, int64 [B]."""
        return stock_macs(self.shape, lengths)
