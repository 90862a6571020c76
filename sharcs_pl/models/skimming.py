"""Skipping tokens on the way (Transkimmer, Guan et al., ACL 2022, arXiv 2205.07324, section 3): before a layer a small
predictor says which tokens it runs on. A skipped token is seen by no layer above; the first one always stays.

Dimensions: `B` batch, `L` tokens, `l` of them still running at most, `D` hidden, `K` layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharcs_pl.models.families import Family, get_family
from sharcs_pl.models.layers import run_layers

KEPT_AT_FIRST = 5.0  # logit of the chance to be kept before training: as good as always

RunLayer = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A layer, states [B, l, D] and the tokens that attention sees, bool [B, l], to states [B, l, D]."""


class SkimPredictor(nn.Module):
    """The logit of each token's probability to be kept, [B, l, D] -> [B, l]: Linear, norm, GELU, Linear."""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(hidden_size, size), nn.LayerNorm(size)
        self.output = nn.Linear(size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(F.gelu(self.norm(self.dense(hidden)))).squeeze(-1)


def skim_size(config: Any) -> int:
    """Hidden units of the predictors of an encoder with that stock config: a quarter of its own, at most 64."""
    hidden = get_family(config.model_type).size(config).hidden
    return max(1, min(64, hidden // 4))


def make_predictors(hidden_size: int, units: int, number: int) -> nn.ModuleList:
    """So many of them."""
    return nn.ModuleList(SkimPredictor(hidden_size, units) for _ in range(number))


def keep_all_at_first(predictors: Iterable[nn.Module]) -> None:
    """Start `predictors` from keeping every token."""
    for predictor in predictors:
        assert isinstance(predictor, SkimPredictor)
        nn.init.constant_(predictor.output.bias, KEPT_AT_FIRST)


@dataclass(frozen=True)
class Decided:
    """Inference: a token goes on where its probability reaches `threshold`, the others are removed; nothing is random.

    `hidden` [B, l, D]; `alive` [B, l] bool, False for padding; `places` [B, l]: where the tokens stood in the input.
    """

    hidden: Tensor
    alive: Tensor
    places: Tensor
    threshold: float

    @classmethod
    def begin(cls, hidden: Tensor, valid: Tensor, threshold: float) -> Decided:
        """All tokens: `hidden` [B, L, D], `valid` bool [B, L]."""
        places = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[:2])
        return cls(hidden, valid, places, threshold)

    def skim(self, predictor: nn.Module) -> Decided:
        """What is left, in the order it was, as many columns as the longest row needs."""
        keep = (predictor(self.hidden).sigmoid() >= self.threshold) & self.alive
        keep[:, 0] = True
        order = (~keep).int().argsort(dim=1, stable=True)[:, : int(keep.sum(1).max())]
        hidden = self.hidden.gather(1, order.unsqueeze(-1).expand(-1, -1, self.hidden.shape[-1]))
        return replace(self, hidden=hidden, alive=keep.gather(1, order), places=self.places.gather(1, order))

    def run(self, layer: nn.Module, run_layer: RunLayer) -> Decided:
        """Through a layer."""
        return replace(self, hidden=run_layer(layer, self.hidden, self.running))

    @property
    def running(self) -> Tensor:
        """The tokens that attention sees, bool [B, l]."""
        return self.alive

    @property
    def gate(self) -> None:
        """Nothing has to carry gradients."""

    def count(self) -> Tensor:
        """Running tokens of each sample, [B] long."""
        return self.alive.sum(1)


@dataclass(frozen=True)
class Drawn:
    """Training: tokens are drawn by Gumbel-softmax, hard in the forward pass and soft in the backward one (section
    3.3). Skipped ones are hidden from attention and carried along, so that gradients reach the predictors.

    `hidden` [B, L, D]; `alive` [B, L]: 1 for a running token, else 0, with gradients.
    """

    hidden: Tensor
    alive: Tensor

    @classmethod
    def begin(cls, hidden: Tensor, valid: Tensor) -> Drawn:
        """All tokens: `hidden` [B, L, D], `valid` bool [B, L]."""
        return cls(hidden, valid.to(hidden.dtype))

    def skim(self, predictor: nn.Module) -> Drawn:
        """A draw among the running tokens."""
        logit = predictor(self.hidden).float()
        gate = F.gumbel_softmax(torch.stack([logit, torch.zeros_like(logit)], -1), hard=True)[..., 0]
        first = torch.zeros_like(self.alive)
        first[:, 0] = 1.0
        return replace(self, alive=self.alive * (first + (1 - first) * gate.to(self.alive.dtype)))

    def run(self, layer: nn.Module, run_layer: RunLayer) -> Drawn:
        """Through a layer, skipped tokens past it."""
        after = run_layer(layer, self.hidden, self.running)
        return replace(self, hidden=self.hidden + self.alive.unsqueeze(-1) * (after - self.hidden))

    @property
    def running(self) -> Tensor:
        """The tokens that attention sees, bool [B, L]."""
        return self.alive.detach() > 0

    @property
    def gate(self) -> Tensor:
        """1 for a running token, else 0, with gradients, [B, L]."""
        return self.alive

    def count(self) -> Tensor:
        """Running tokens of each sample, float [B], with gradients."""
        return self.alive.float().sum(1)


def layer_runner(family: Family, stock: Any) -> RunLayer:
    """How a layer of the encoder `stock` is run; none of its extras is needed where tokens can be skipped."""

    def run(layer: nn.Module, hidden: Tensor, valid: Tensor) -> Tensor:
        return run_layers([layer], hidden, family.mask(stock, hidden, valid.long()), {})

    return run


def skim_layers(
    tokens: Decided | Drawn, predictors: Iterable[nn.Module], layers: Sequence[nn.Module], run_layer: RunLayer
) -> tuple[Decided | Drawn, Tensor]:
    """`tokens` through `layers`, a predictor before each, one more after the last where there is one. Beside them how
    many came in, and were left by each predictor, [B, 1 + predictors]."""
    counts = [tokens.count()]
    for predictor, layer in zip_longest(predictors, layers):
        tokens = tokens.skim(predictor)
        counts.append(tokens.count())
        tokens = tokens if layer is None else tokens.run(layer, run_layer)
    return tokens, torch.stack(counts, 1)
