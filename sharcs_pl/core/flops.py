"""The cost of a forward pass in closed form, from the token count of each sample without padding.

The unit is the MAC, one multiply and one add, which is half of what FLOP counters report. The count includes the
Linear layers, the two matrix products of attention (scores, and scores by values) and the weighted sums of a learned
reduction. It excludes embedding look-ups, norms, activations, softmax and biases, together about 0.1 % of an encoder
of base size.

Attention is counted as dense kernels compute it, L x L in every layer, even if a layer masks all but a window
(ModernBERT). Relative positions are projected once per pass, whatever the batch size. Each sample is charged for the
whole projection, as if it ran alone.

Legend: `B` batch, `L` tokens, `D` hidden, `N` heads, `H` head size, `F` feed-forward, `E` embedding, `P` relative
positions, `W` rungs, `C` classes. A suffix i is rung i's size, r_i times the full one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.widths import WidthLadder


@dataclass(frozen=True)
class EncoderShape:
    """Full sizes of an encoder with a classification head.

    `embedding_size`: input size of the Linear E -> D after the embeddings (ALBERT, ELECTRA), None without one.
    `ffn_matrices`: number of D x F matrices in a feed-forward block, 2, or 3 if it is gated (ModernBERT).
    `relative_positions`: rows P of the embedding table [P, D] that every layer's attention reads (DeBERTa).
    `position_projections`: number of Linears that project the table to keys or queries. `position_terms`: number of
    products with the tokens' queries or keys (content to position, position to content).
    """

    hidden_size: int
    num_heads: int
    head_size: int
    intermediate_size: int
    num_layers: int
    num_labels: int
    embedding_size: int | None = None
    ffn_matrices: int = 2
    relative_positions: int = 0
    position_projections: int = 0
    position_terms: int = 0


def embedding_macs(shape: EncoderShape, lengths: np.ndarray) -> np.ndarray:
    """Return the MACs before the first layer, int64 [B]: L*E*D if the embeddings are projected, else 0."""
    return _tokens(lengths) * ((shape.embedding_size or 0) * shape.hidden_size)


def layer_macs(shape: EncoderShape, lengths: np.ndarray, *, hidden: int, heads: int, intermediate: int) -> np.ndarray:
    """Return the MACs of one layer at the given sizes, int64 [B].

    Query, key, value and output: 4*L*D_i*N_i*H; attention: 2*L*L*N_i*H; feed-forward: 2*L*D_i*F_i (3 if gated);
    relative positions: P*D_i*N_i*H for each projection and L*P*N_i*H for each term.
    """
    tokens, inner = _tokens(lengths), heads * shape.head_size
    linears = 4 * hidden * inner + shape.ffn_matrices * hidden * intermediate
    positions = shape.relative_positions * inner * (shape.position_projections * hidden + shape.position_terms * tokens)
    return tokens * linears + 2 * tokens**2 * inner + positions


def full_layer_macs(shape: EncoderShape, lengths: np.ndarray) -> np.ndarray:
    """Return the MACs of one layer at full width, int64 [B]."""
    return layer_macs(
        shape, lengths, hidden=shape.hidden_size, heads=shape.num_heads, intermediate=shape.intermediate_size
    )


def predictor_macs(shape: EncoderShape, tokens: np.ndarray, units: int) -> np.ndarray:
    """Return the MACs of a skimming predictor, D -> units -> 1 on each token, int64 [B]. `tokens`: int [B]."""
    return _tokens(tokens) * (units * (shape.hidden_size + 1))


def head_macs(shape: EncoderShape, hidden: int) -> int:
    """Return the MACs of the classification head, D_i -> D -> C on one token."""
    return hidden * shape.hidden_size + shape.hidden_size * shape.num_labels


def stock_macs(shape: EncoderShape, lengths: np.ndarray) -> np.ndarray:
    """Return the MACs of the stock model, every layer at full width and the head, int64 [B]. `lengths`: int [B]."""
    layers = shape.num_layers * full_layer_macs(shape, lengths)
    return embedding_macs(shape, lengths) + layers + head_macs(shape, shape.hidden_size)


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """MACs per sample of a routed encoder and of its stock model.

    `split_layer`: full-width layers before the router. `router_hidden_size`: width of the router's hidden layer.
    `reduction`: "slice" (free) or "learned" (L*D). `has_router`: False if nothing is routed. `cut`: "heads_ffn" keeps
    all hidden dims on every rung. `skim`: hidden units of the predictors that skip tokens, 0 without skimming.
    """

    shape: EncoderShape
    ladder: WidthLadder
    split_layer: int
    router_hidden_size: int
    reduction: str
    has_router: bool
    cut: str = "full"
    skim: int = 0

    def rung_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs of a whole pass on every rung with the router and no token skipped, int64 [B, W]. `lengths`:
        tokens, int [B]."""
        return self.skimmed_macs(self._unskimmed(lengths))

    def skimmed_macs(self, tokens: np.ndarray) -> np.ndarray:
        """Return the MACs of a whole pass on every rung with skipped tokens, int64 [B, W]. `tokens`: numbers of tokens
        at the input, in each trunk layer and in the tail, int [B, split_layer + 2]."""
        tails = [self.tail_macs(tokens[:, -1], rung) for rung in range(len(self.ladder))]
        return self._trunk(tokens)[:, None] + np.stack(tails, axis=1)

    def dense_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs of the stock model, int64 [B]. `lengths`: tokens, int [B]."""
        return stock_macs(self.shape, lengths)

    def decided_macs(self, rule: DecisionRule, lengths: np.ndarray, first: np.ndarray, rungs: np.ndarray) -> np.ndarray:
        """Return the MACs of samples that by a rule begin at `first` [B] and end on `rungs` [B], int64 [B]."""
        macs = self.cascade_macs(lengths, first, rule.routed) if rule.cascades else self.rung_macs(lengths)
        return macs[np.arange(len(lengths)), rungs]

    def cascade_macs(self, lengths: np.ndarray, first: np.ndarray | int, routed: bool) -> np.ndarray:
        """Return the MACs of a sample that begins at the rung `first` ([B], or one) and ends on each rung, int64
        [B, W]. It runs the trunk once, the router if `routed`, and every tail from the first to the last. Rungs before
        `first` mean nothing."""
        tails = np.stack([self.tail_macs(lengths, rung) for rung in range(len(self.ladder))], axis=1)
        ran = np.arange(len(self.ladder)) >= np.reshape(first, (-1, 1))
        trunk = self.trunk_macs(lengths) - (0 if routed else self.router_macs())
        return trunk[:, None] + np.where(ran, tails, 0).cumsum(1)

    def trunk_macs(self, lengths: np.ndarray) -> np.ndarray:
        """Return the MACs up to the routing decision with no token skipped, int64 [B]."""
        return self._trunk(self._unskimmed(lengths))

    def _trunk(self, tokens: np.ndarray) -> np.ndarray:
        """Return the MACs of the trunk, int64 [B]. Each predictor reads the tokens of the layer below."""
        came, ran = tokens.T[0], tokens.T[1:-1]
        layers = sum(full_layer_macs(self.shape, column) for column in ran)
        predictors = predictor_macs(self.shape, tokens[:, :-1].sum(1), self.skim)
        return embedding_macs(self.shape, came) + layers + predictors + self.router_macs()

    def _unskimmed(self, lengths: np.ndarray) -> np.ndarray:
        return np.repeat(_tokens(lengths)[:, None], self.split_layer + 2, axis=1)

    def router_macs(self) -> int:
        """Return the MACs of the router, D -> router_hidden -> W on one pooled vector."""
        return self.router_hidden_size * (self.shape.hidden_size + len(self.ladder)) if self.has_router else 0

    def tail_macs(self, lengths: np.ndarray, rung: int) -> np.ndarray:
        """Return the MACs of a rung after the routing decision (cut, narrow layers and head), int64 [B]."""
        shape, size = self.shape, self.ladder.size
        hidden, heads = self.hidden_size(rung), size(rung, shape.num_heads)
        layer = layer_macs(shape, lengths, hidden=hidden, heads=heads, intermediate=size(rung, shape.intermediate_size))
        layers = (shape.num_layers - self.split_layer) * layer
        return self.reduction_macs(lengths, rung) + layers + head_macs(shape, hidden)

    def hidden_size(self, rung: int) -> int:
        """Return the hidden size D_i of a rung."""
        full = self.shape.hidden_size
        return full if self.cut == "heads_ffn" else self.ladder.size(rung, full)

    def reduction_macs(self, lengths: np.ndarray, rung: int) -> np.ndarray:
        """Return the MACs of the cut to a rung, int64 [B]: L*D if it is learned, and 0 on the top rung."""
        learned = self.reduction == "learned" and self.hidden_size(rung) != self.shape.hidden_size
        return _tokens(lengths) * (self.shape.hidden_size if learned else 0)


def _tokens(lengths: np.ndarray) -> np.ndarray:
    return np.asarray(lengths, dtype=np.int64)
