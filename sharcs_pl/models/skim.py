"""Token skimming, with a small predictor before every layer that selects its tokens (Transkimmer, Guan et al., ACL
2022, arXiv 2205.07324). Skipped tokens keep their state, and the layers above never see them again.

Dimensions: `B` batch, `L` tokens, `l` largest number of running tokens, `D` hidden, `C` labels, `K` layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils.generic import ModelOutput, can_return_tuple

from sharcs_pl.core.skim import TRAINED_THRESHOLD, SkimCost, SkimLadder
from sharcs_pl.models.base import LadderModel, settings_of
from sharcs_pl.models.configuration import LadderConfig
from sharcs_pl.models.decision import Decision
from sharcs_pl.models.encoder_sizes import check_skimmable
from sharcs_pl.models.head import run_head
from sharcs_pl.models.outputs import EveryRung
from sharcs_pl.models.pretrained import Source, cast, load_stock, stock_from_dict
from sharcs_pl.models.router import loss_of
from sharcs_pl.models.running_tokens import (
    Decided,
    Drawn,
    keep_all_at_first,
    layer_runner,
    make_predictors,
    skim_layers,
    skim_size,
)
from sharcs_pl.models.sweeps import SweptPoint


class SkimConfig(LadderConfig):
    """The config of a skimming model. `encoder`: the stock model's config as a dict. `threshold`: least probability of
    a kept token. `predictor_size`: hidden units of each layer's predictor."""

    model_type = "sharcs_skim"
    keys_to_ignore_at_inference: ClassVar = ["last_states", "kept"]

    def __init__(
        self, encoder: dict[str, Any] | None = None, threshold: float = 0.5, predictor_size: int = 64, **kwargs: Any
    ) -> None:
        self.threshold = threshold
        self.predictor_size = predictor_size
        super().__init__(encoder, **kwargs)


@dataclass
class SkimOutput(ModelOutput):
    """The output of a pass. `loss`: the task loss, None without labels. `logits`: [B, C]. `last_states`: [B, L, D], the
    state of a token when it was skipped, else after the last layer. `kept`: [B, K] long, the tokens of each layer."""

    loss: Any = None
    logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    last_states: Tensor = None  # pyright: ignore[reportAssignmentType]
    kept: Tensor = None  # pyright: ignore[reportAssignmentType]


class SkimForSequenceClassification(LadderModel):
    """A stock encoder whose layers run on ever fewer tokens. The first token, which the head reads, always stays."""

    config: SkimConfig
    ladder: SkimLadder  # pyright: ignore[reportIncompatibleVariableOverride]
    cost: SkimCost  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = SkimConfig
    __call__: Callable[..., SkimOutput]

    def __init__(self, config: SkimConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        assert config.num_labels is not None
        self.encoder = encoder or stock_from_dict(config.encoder, config.num_labels, config._attn_implementation)
        check_skimmable(self.family.model_type)
        self.shape, self.ladder = self.family.shape(self.encoder), SkimLadder()
        self.cost = SkimCost(self.shape, self.ladder, config.predictor_size)
        self.predictors = make_predictors(self.shape.hidden_size, config.predictor_size, self.shape.num_layers)
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        source: Source,
        *,
        num_labels: int | None = None,
        problem_type: str | None = None,
        dropout: float | None = None,
        predictor_size: int | None = None,
    ) -> Self:
        """Add predictors to a stock encoder, given as a folder, a hub id or a model object (copied). At first they keep
        all tokens. `predictor_size` None is a quarter of the hidden size, at most 64."""
        stock = load_stock(source, num_labels, dropout)
        config = SkimConfig(
            predictor_size=predictor_size or skim_size(stock.config),
            **settings_of(stock, num_labels, problem_type),
        )
        model = cls(config, stock).eval()
        keep_all_at_first(model.predictors)
        return cast(model, stock.dtype, stock.device)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        threshold: float | None = None,
        **extras: Any,
    ) -> SkimOutput:
        """Run a deterministic pass in which skipped tokens are removed.

        `input_ids`, `attention_mask`, `token_type_ids`: [B, L] long, the last two optional. `threshold`: None for
        `config.threshold`; 0 keeps every token. `labels` (they add the task loss) and `extras`: as in the
        routed model.
        """
        threshold = self.config.threshold if threshold is None else threshold
        hidden, mask = self.embed(input_ids, attention_mask, token_type_ids, **self.embedded(extras))
        run = layer_runner(self.family, self.encoder)
        tokens, last, kept = Decided.begin(hidden, mask > 0, threshold), hidden.clone(), []
        for layer, predictor in zip(self._layers(), self.predictors, strict=True):
            tokens = tokens.skim(predictor).run(layer, run)
            last = _put(last, tokens)
            kept.append(tokens.count())
        logits = self._answer(tokens.hidden, tokens.alive)
        loss = None if labels is None else loss_of(self.kind, logits, labels)
        return SkimOutput(loss, logits, last, torch.stack(kept, 1))

    def soft(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the pass of training (see `Drawn`). Return the logits [B, C] and each sample's share of running tokens
        [B], averaged over layers."""
        hidden, mask = self.embed(input_ids, attention_mask, token_type_ids)
        valid, run = mask > 0, layer_runner(self.family, self.encoder)
        tokens, counts = skim_layers(Drawn.begin(hidden, valid), self.predictors, self._layers(), run)
        shares = counts[:, 1:] / counts[:, :1].clamp(min=1)
        return self._answer(tokens.hidden, valid), shares.mean(1)

    def all_rungs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> EveryRung:
        """Run every sample at every threshold of the ladder, with the MACs of each pass."""
        outs = [self(input_ids, attention_mask, token_type_ids, threshold=x) for x in self.ladder.thresholds]
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        lengths = mask.sum(1).cpu().numpy()
        macs = np.stack([self.cost.macs(lengths, out.kept.cpu().numpy()) for out in outs], axis=1)
        return EveryRung(torch.stack([out.logits for out in outs], 1), macs=torch.from_numpy(macs).double())

    def decide(self, logits: Tensor, signals: Tensor | None) -> Decision:
        """Return the rung of training's threshold for every sample."""
        return Decision.at(torch.full(logits.shape[:1], TRAINED_THRESHOLD, device=logits.device), logits)

    def sweep(self, logits: Tensor, signals: Tensor | None) -> dict[str, list[SweptPoint]]:
        """Return nothing, because the thresholds are the rungs."""
        return {}

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the predictors."""
        return list(self.predictors.parameters())

    def describe(self) -> str:
        """Return a description of the skimming."""
        return "tokens skimmed before every layer"

    def _answer(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """Run the stock head on the remaining tokens, [B, l, D] -> [B, C]."""
        head = self.family.head(self.encoder)
        return run_head(head, head.pool(hidden, valid))

    def _layers(self) -> list[nn.Module]:
        return self.family.depth_order(self.encoder)


def _put(last: Tensor, tokens: Decided) -> Tensor:
    """Return `last` [B, L, D] with the states of the running `tokens` at their places."""
    index = tokens.places.unsqueeze(-1).expand(-1, -1, last.shape[-1])
    return last.scatter(1, index, torch.where(tokens.alive.unsqueeze(-1), tokens.hidden, last.gather(1, index)))


AutoConfig.register(SkimConfig.model_type, SkimConfig, exist_ok=True)
AutoModelForSequenceClassification.register(SkimConfig, SkimForSequenceClassification, exist_ok=True)
