"""Token skipping by small predictors that select the tokens of the next layer (Transkimmer, Guan et al., ACL 2022,
arXiv 2205.07324, section 3). No layer above sees a skipped token. The first token always stays.

Dimensions: `B` batch, `L` tokens, `l` largest number of running tokens, `D` hidden, `K` layers.
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

KEPT_AT_FIRST = 5.0  # logit of the probability to be kept before training, almost 1

RunLayer = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A function of a layer, states [B, l, D] and the attention mask, bool [B, l], that returns states [B, l, D]."""


class SkimPredictor(nn.Module):
    """A predictor of each token's logit to be kept, [B, l, D] -> [B, l], made of Linear, norm, GELU and Linear."""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(hidden_size, size), nn.LayerNorm(size)
        self.output = nn.Linear(size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(F.gelu(self.norm(self.dense(hidden)))).squeeze(-1)


def skim_size(config: Any) -> int:
    """Return the hidden units of the predictors for a stock config, a quarter of its hidden size, at most 64."""
    hidden = get_family(config.model_type).size(config).hidden
    return max(1, min(64, hidden // 4))


def make_predictors(hidden_size: int, units: int, number: int) -> nn.ModuleList:
    """Return `number` predictors."""
    return nn.ModuleList(SkimPredictor(hidden_size, units) for _ in range(number))


def keep_all_at_first(predictors: Iterable[nn.Module]) -> None:
    """Initialise `predictors` to keep every token."""
    for predictor in predictors:
        assert isinstance(predictor, SkimPredictor)
        nn.init.constant_(predictor.output.bias, KEPT_AT_FIRST)


@dataclass(frozen=True)
class Decided:
    """The running tokens at inference. A token whose probability is below `threshold` is removed; nothing is random.

    `hidden`: [B, l, D]. `alive`: [B, l] bool, False for padding. `places`: [B, l], positions in the input.
    """

    hidden: Tensor
    alive: Tensor
    places: Tensor
    threshold: float

    @classmethod
    def begin(cls, hidden: Tensor, valid: Tensor, threshold: float) -> Decided:
        """Start with all tokens, `hidden` [B, L, D] and `valid` bool [B, L]."""
        places = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[:2])
        return cls(hidden, valid, places, threshold)

    def skim(self, predictor: nn.Module) -> Decided:
        """Return the kept tokens in their old order, with as many columns as the longest row needs."""
        keep = (predictor(self.hidden).sigmoid() >= self.threshold) & self.alive
        keep[:, 0] = True
        order = (~keep).int().argsort(dim=1, stable=True)[:, : int(keep.sum(1).max())]
        hidden = self.hidden.gather(1, order.unsqueeze(-1).expand(-1, -1, self.hidden.shape[-1]))
        return replace(self, hidden=hidden, alive=keep.gather(1, order), places=self.places.gather(1, order))

    def run(self, layer: nn.Module, run_layer: RunLayer) -> Decided:
        """Run a layer on the tokens."""
        return replace(self, hidden=run_layer(layer, self.hidden, self.running))

    @property
    def running(self) -> Tensor:
        """The attention mask, bool [B, l]."""
        return self.alive

    @property
    def gate(self) -> None:
        """The gate of tokens, which is None because inference needs no gradients."""

    def count(self) -> Tensor:
        """Return the number of running tokens of each sample, [B] long."""
        return self.alive.sum(1)


@dataclass(frozen=True)
class Drawn:
    """The tokens in training, drawn by Gumbel-softmax, hard in the forward pass and soft in the backward pass (section
    3.3). Skipped tokens are masked in attention instead of removed, so that gradients reach the predictors.

    `hidden`: [B, L, D]. `alive`: [B, L], 1 for a running token, else 0, with gradients.
    """

    hidden: Tensor
    alive: Tensor

    @classmethod
    def begin(cls, hidden: Tensor, valid: Tensor) -> Drawn:
        """Start with all tokens, `hidden` [B, L, D] and `valid` bool [B, L]."""
        return cls(hidden, valid.to(hidden.dtype))

    def skim(self, predictor: nn.Module) -> Drawn:
        """Draw the kept ones among the running tokens."""
        logit = predictor(self.hidden).float()
        gate = F.gumbel_softmax(torch.stack([logit, torch.zeros_like(logit)], -1), hard=True)[..., 0]
        first = torch.zeros_like(self.alive)
        first[:, 0] = 1.0
        return replace(self, alive=self.alive * (first + (1 - first) * gate.to(self.alive.dtype)))

    def run(self, layer: nn.Module, run_layer: RunLayer) -> Drawn:
        """Run a layer on the running tokens, while skipped tokens bypass it."""
        after = run_layer(layer, self.hidden, self.running)
        return replace(self, hidden=self.hidden + self.alive.unsqueeze(-1) * (after - self.hidden))

    @property
    def running(self) -> Tensor:
        """The attention mask, bool [B, L]."""
        return self.alive.detach() > 0

    @property
    def gate(self) -> Tensor:
        """The gate of each token, 1 if it is running, else 0, [B, L] with gradients."""
        return self.alive

    def count(self) -> Tensor:
        """Return the number of running tokens of each sample, float [B] with gradients."""
        return self.alive.float().sum(1)


def layer_runner(family: Family, stock: Any) -> RunLayer:
    """Return the function that runs a layer of `stock`. Encoders that can skip tokens need no further inputs."""

    def run(layer: nn.Module, hidden: Tensor, valid: Tensor) -> Tensor:
        return run_layers([layer], hidden, family.mask(stock, hidden, valid.long()), {})

    return run


def skim_layers(
    tokens: Decided | Drawn, predictors: Iterable[nn.Module], layers: Sequence[nn.Module], run_layer: RunLayer
) -> tuple[Decided | Drawn, Tensor]:
    """Run `layers` on `tokens` with a predictor before each, and after the last if there is one more. Return the tokens
    and their numbers at the input and after each predictor, [B, 1 + predictors]."""
    counts = [tokens.count()]
    for predictor, layer in zip_longest(predictors, layers):
        tokens = tokens.skim(predictor)
        counts.append(tokens.count())
        tokens = tokens if layer is None else tokens.run(layer, run_layer)
    return tokens, torch.stack(counts, 1)
