"""What a pass costs, in closed form, at the real token count of each sample.

The unit is the MAC: one multiply and one add, so half of what counters of FLOPs show. Counted are matrix products: the
Linear layers and the two products of attention (scores, and scores by values), plus the weighted sums of a learned
reduction. Look-ups of embeddings, norms, activations, softmax and biases are not counted; together they are about 0.1 %
of an encoder of base size.

Attention is counted as dense kernels compute it, L x L in every layer, also where a layer masks all but a window
(ModernBERT). Relative positions are projected once per pass, whatever its batch size; a sample is charged for all of
it, as if it ran alone.

Legend: `B` batch, `L` tokens, `D` hidden, `N` heads, `H` head size, `F` feed-forward, `E` embedding, `P` relative
positions, `W` rungs, `C` classes. A suffix i is rung i's size, r_i times the full one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharcs_pl.core.widths import WidthLadder


@dataclass(frozen=True)
class EncoderShape:
    """Full sizes of an encoder with a classification head.

    `embedding_size`: where a Linear E -> D follows the embeddings (ALBERT, ELECTRA); None where there is none.
    `ffn_matrices`: D x F matrices of a feed-forward block: 2, or 3 where it is gated (ModernBERT).
    `relative_positions`: rows P of a table of embeddings [P, D] that every layer's attention reads (DeBERTa), with
    `position_projections` Linears that take the table to keys or queries, and `position_terms` products of it with the
    tokens' queries or keys (content to position, position to content).
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
    """MACs before the first layer, int64 [B]: L*E*D where the embeddings are projected, else 0."""
    return _tokens(lengths) * ((shape.embedding_size or 0) * shape.hidden_size)


def layer_macs(shape: EncoderShape, lengths: np.ndarray, *, hidden: int, heads: int, intermediate: int) -> np.ndarray:
    """MACs of one layer at the given sizes, int64 [B].

    Query, key, value and output: 4*L*D_i*N_i*H; attention: 2*L*L*N_i*H; feed-forward: 2*L*D_i*F_i (3 if gated);
    relative positions: P*D_i*N_i*H for each projection of them and L*P*N_i*H for each term.
    """
    tokens, inner = _tokens(lengths), heads * shape.head_size
    linears = 4 * hidden * inner + shape.ffn_matrices * hidden * intermediate
    positions = shape.relative_positions * inner * (shape.position_projections * hidden + shape.position_terms * tokens)
    return tokens * linears + 2 * tokens**2 * inner + positions


def full_layer_macs(shape: EncoderShape, lengths: np.ndarray) -> np.ndarray:
    """MACs of one layer at full width, int64 [B]."""
    return layer_macs(
        shape, lengths, hidden=shape.hidden_size, heads=shape.num_heads, intermediate=shape.intermediate_size
    )


def predictor_macs(shape: EncoderShape, tokens: np.ndarray, units: int) -> np.ndarray:
    """MACs of a predictor of skimming on `tokens` [B], int64 [B]: D -> units -> 1 for each."""
    return _tokens(tokens) * (units * (shape.hidden_size + 1))


def head_macs(shape: EncoderShape, hidden: int) -> int:
    """MACs of the classification head, on one token: D_i -> D, then D -> C."""
    return hidden * shape.hidden_size + shape.hidden_size * shape.num_labels


def stock_macs(shape: EncoderShape, lengths: np.ndarray) -> np.ndarray:
    """MACs of the stock model, int64 [B]: every layer at full width, and the head. `lengths`: tokens, int [B]."""
    layers = shape.num_layers * full_layer_macs(shape, lengths)
    return embedding_macs(shape, lengths) + layers + head_macs(shape, shape.hidden_size)


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """MACs per sample of a routed encoder, and of the stock model it was made from.

    `split_layer`: full-width layers before the router. `router_hidden_size`: width of the router's hidden layer.
    `reduction`: "slice" (free) or "learned" (L*D). `has_router`: False where nothing is routed. `cut`: "heads_ffn"
    keeps all hidden dims on every rung. `skim`: hidden units of the predictors that skip tokens, 0 where none does.
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
        """MACs of the whole pass on every rung, the router's included, int64 [B, W]. `lengths`: tokens, int [B], none
        of which is skipped."""
        return self.skimmed_macs(self._unskimmed(lengths))

    def skimmed_macs(self, tokens: np.ndarray) -> np.ndarray:
        """The same where some are, int64 [B, W]. `tokens`, int [B, split_layer + 2]: how many came in, ran in each
        layer of the trunk, and in the tail."""
        tails = [self.tail_macs(tokens[:, -1], rung) for rung in range(len(self.ladder))]
        return self._trunk(tokens)[:, None] + np.stack(tails, axis=1)

    def dense_macs(self, lengths: np.ndarray) -> np.ndarray:
        """MACs of the stock model, int64 [B]. `lengths`: tokens, int [B]."""
        return stock_macs(self.shape, lengths)

    def tried_macs(self, lengths: np.ndarray) -> np.ndarray:
        """MACs of a cascade that ends on each rung, int64 [B, W]: one trunk, no router, and every tail up to that
        rung."""
        tails = np.stack([self.tail_macs(lengths, rung) for rung in range(len(self.ladder))], axis=1)
        return (self.trunk_macs(lengths) - self.router_macs())[:, None] + tails.cumsum(1)

    def trunk_macs(self, lengths: np.ndarray) -> np.ndarray:
        """MACs up to the routing decision, int64 [B]; no token is skipped."""
        return self._trunk(self._unskimmed(lengths))

    def _trunk(self, tokens: np.ndarray) -> np.ndarray:
        """Each predictor reads the tokens that the layer below ran on."""
        came, ran = tokens.T[0], tokens.T[1:-1]
        layers = sum(full_layer_macs(self.shape, column) for column in ran)
        predictors = predictor_macs(self.shape, tokens[:, :-1].sum(1), self.skim)
        return embedding_macs(self.shape, came) + layers + predictors + self.router_macs()

    def _unskimmed(self, lengths: np.ndarray) -> np.ndarray:
        return np.repeat(_tokens(lengths)[:, None], self.split_layer + 2, axis=1)

    def router_macs(self) -> int:
        """MACs of the router, on one pooled vector: D -> router_hidden -> W."""
        return self.router_hidden_size * (self.shape.hidden_size + len(self.ladder)) if self.has_router else 0

    def tail_macs(self, lengths: np.ndarray, rung: int) -> np.ndarray:
        """MACs after the routing decision on a rung, int64 [B]: the cut, the narrow layers, the head."""
        shape, size = self.shape, self.ladder.size
        hidden, heads = self.hidden_size(rung), size(rung, shape.num_heads)
        layer = layer_macs(shape, lengths, hidden=hidden, heads=heads, intermediate=size(rung, shape.intermediate_size))
        layers = (shape.num_layers - self.split_layer) * layer
        return self.reduction_macs(lengths, rung) + layers + head_macs(shape, hidden)

    def hidden_size(self, rung: int) -> int:
        """D_i."""
        full = self.shape.hidden_size
        return full if self.cut == "heads_ffn" else self.ladder.size(rung, full)

    def reduction_macs(self, lengths: np.ndarray, rung: int) -> np.ndarray:
        """MACs of the cut, int64 [B]: L*D where it is learned; the top rung is not cut."""
        learned = self.reduction == "learned" and self.hidden_size(rung) != self.shape.hidden_size
        return _tokens(lengths) * (self.shape.hidden_size if learned else 0)


def _tokens(lengths: np.ndarray) -> np.ndarray:
    return np.asarray(lengths, dtype=np.int64)
