"""Early exits, with a head after every chosen layer of a stock encoder. Samples leave the batch once they stop.

The stop rules and their papers are in `stopping`, the losses in `training.exits`.

Dimensions: `B` batch, `b` samples still running, `L` tokens, `D` hidden, `C` labels, `E` exits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils.generic import ModelOutput, can_return_tuple

from sharcs_pl.core.exits import ExitCost, ExitLadder
from sharcs_pl.core.methods import STOP_RULES
from sharcs_pl.models.base import LadderModel, settings_of
from sharcs_pl.models.configuration import LadderConfig
from sharcs_pl.models.decision import Decision
from sharcs_pl.models.families import get_family
from sharcs_pl.models.head import ExitHead, run_head
from sharcs_pl.models.layers import run_layers
from sharcs_pl.models.outputs import EveryRung
from sharcs_pl.models.pretrained import Source, cast, load_stock, stock_from_dict
from sharcs_pl.models.router import loss_of
from sharcs_pl.models.stopping import RULES, StopRule, first_stop
from sharcs_pl.models.sweeps import SweptPoint, sweep_exits


class ExitsConfig(LadderConfig):
    """The config of a model with early exits. `encoder`: the stock model's config as a dict. `exits`: layers counted
    from 1, with the last one. `exit_head`, `rule`, `threshold` and `tolerance`: values of the keys `method.*`."""

    model_type = "sharcs_exits"
    keys_to_ignore_at_inference: ClassVar = ["exits"]

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        exits: Sequence[int] = (1,),
        exit_head: str = "stock",
        rule: str = "confidence",
        threshold: float = 0.9,
        tolerance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.exits = list(exits)
        self.exit_head = exit_head
        self.rule = rule
        self.threshold = threshold
        self.tolerance = tolerance
        super().__init__(encoder, **kwargs)


@dataclass
class ExitsOutput(ModelOutput):
    """The output of a pass. `loss`: the task loss, None without labels. `logits`: [B, C], from each sample's exit.
    `exits`: [B], the indices of these exits."""

    loss: Any = None
    logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    exits: Tensor = None  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True)
class Running:
    """The samples still running. `rows`: [b], their places in the batch. `hidden`: [b, L, D]. `mask`: [b, L]. `ends`:
    [b], the place after the last real token. `logits`: [b, E, C] and `certainty`: [b, E] (or None), from the exits
    passed."""

    rows: Tensor
    hidden: Tensor
    mask: Tensor
    ends: Tensor
    logits: Tensor
    certainty: Tensor | None

    def select(self, kept: Tensor, length: int) -> Running:
        """Return the samples at the places `kept`, [n] long, cut to their first `length` tokens."""
        if len(kept) == len(self.rows):
            return self
        certainty = None if self.certainty is None else self.certainty[kept]
        hidden, mask = self.hidden[kept, :length], self.mask[kept, :length]
        return Running(self.rows[kept], hidden, mask, self.ends[kept], self.logits[kept], certainty)


class ExitsForSequenceClassification(LadderModel):
    """A stock encoder with a head after each layer of `config.exits`. The head after the last layer is the stock head,
    so samples that stop at no earlier exit get the stock logits."""

    config: ExitsConfig
    ladder: ExitLadder  # pyright: ignore[reportIncompatibleVariableOverride]
    cost: ExitCost  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = ExitsConfig
    __call__: Callable[..., ExitsOutput]

    def __init__(self, config: ExitsConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        assert config.num_labels is not None
        self.encoder = encoder or stock_from_dict(config.encoder, config.num_labels, config._attn_implementation)
        self.shape = self.family.shape(self.encoder)
        self.ladder = ExitLadder.of(config.exits, self.shape.num_layers)
        linear, learned = config.exit_head == "linear", config.rule == "learned"
        self.cost = ExitCost(self.shape, self.ladder, linear, learned)
        head = self.family.head(self.encoder)
        self.heads = nn.ModuleList(ExitHead(head, linear, self._final) for _ in range(self.ladder.top))
        self.certainty = nn.Linear(self.shape.hidden_size, 1) if learned else None
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        source: Source,
        *,
        rule: str,
        exits: Sequence[int] | None = None,
        exit_head: str = "stock",
        threshold: float | None = None,
        tolerance: float = 0.0,
        num_labels: int | None = None,
        problem_type: str | None = None,
        dropout: float | None = None,
    ) -> Self:
        """Add exits to a stock encoder, given as a folder, a hub id or a model object (which is copied). The first
        layers of new heads are copied from the stock head, their outputs are drawn from the global torch generator. The
        model is in evaluation mode. Raise `ValueError` naming `encoder.pretrained` or `method.exits`."""
        stock = load_stock(source, num_labels, dropout)
        family = get_family(stock.config.model_type)
        ladder = ExitLadder.of(exits, len(family.depth_order(stock)))
        config = ExitsConfig(
            exits=ladder.layers,
            exit_head=exit_head,
            rule=rule,
            threshold=STOP_RULES[rule].default if threshold is None else threshold,
            tolerance=tolerance,
            **settings_of(stock, num_labels, problem_type),
        )
        model = cls(config, stock)
        for head in model.heads:
            assert isinstance(head, ExitHead)
            head.start(family.head(stock), model._final)
        return cast(model.eval(), stock.dtype, stock.device)

    @property
    def rule(self) -> StopRule:
        """The stop rule, for the kind of task."""
        return replace(RULES[self.config.rule], multi_label=self.kind.multi_label)

    @property
    def _final(self) -> nn.Module | None:
        """Return the encoder's norm after its last layer, or None."""
        return self.family.outer_norms(self._base).get("final")

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        threshold: float | None = None,
        **extras: Any,
    ) -> ExitsOutput:
        """Run a pass in which samples leave the batch at the exit at which they stop.

        `input_ids`, `attention_mask`, `token_type_ids`: [B, L] long, the last two optional. `threshold`: threshold of
        the stop rule, None for `config.threshold`. `labels`, which add the task loss, and `extras`: as in
        the routed model.
        """
        threshold = self.config.threshold if threshold is None else threshold
        now = self._start(*self.embed(input_ids, attention_mask, token_type_ids, **self.embedded(extras)))
        logits, exits = self._stop(now, threshold)
        loss = None if labels is None else loss_of(self.kind, logits, labels)
        return ExitsOutput(loss, logits, exits)

    def _stop(self, now: Running, threshold: float) -> tuple[Tensor, Tensor]:
        """Return the logits [B, C] of the exit that each sample takes, and its index [B] long."""
        logits, exits = now.hidden.new_empty(len(now.rows), self.shape.num_labels), torch.zeros_like(now.rows)
        for exit in range(len(self.ladder)):
            now = self._advance(now, exit)
            leaves, ends = self._leaves(now, exit, threshold)
            at, kept = (x.nonzero().flatten().to(now.rows.device, non_blocking=True) for x in (leaves, ~leaves))
            logits = logits.index_copy(0, now.rows[at], now.logits[at, -1])
            exits[now.rows[at]] = exit
            if not len(kept):
                break
            now = now.select(kept, int(ends[~leaves].max()))
        return logits, exits

    def all_rungs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> EveryRung:
        """Run every sample to every exit. The signals are learned certainties in logits, else None."""
        return EveryRung(*self.exits(input_ids, attention_mask, token_type_ids))

    def exits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        detach: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the logits [B, E, C] and certainties [B, E] (None if not learned) of every exit. With `detach` only
        the last head sends gradients to the encoder."""
        now = self._start(*self.embed(input_ids, attention_mask, token_type_ids))
        for exit in range(len(self.ladder)):
            now = self._advance(now, exit, detach)
        return now.logits, now.certainty

    def choose(self, logits: Tensor, signals: Tensor | None, threshold: float | None = None) -> Tensor:
        """Return the exit that each sample takes, [B] long, from the outputs of `all_rungs`."""
        threshold = self.config.threshold if threshold is None else threshold
        return first_stop(self.rule.stops(logits, signals, self.config.tolerance, threshold))

    def decide(self, logits: Tensor, signals: Tensor | None) -> Decision:
        """Return the exits that the config's threshold chooses, from the outputs of `all_rungs`."""
        return Decision.at(self.choose(logits, signals), logits)

    def sweep(self, logits: Tensor, signals: Tensor | None) -> dict[str, list[SweptPoint]]:
        """Return the thresholds at which choices change and the exits that they give, from `all_rungs`."""
        return {self.own_rule: sweep_exits(self.rule, logits, signals, self.config.tolerance)}

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the exits add to the stock model."""
        return [*self.heads.parameters(), *([] if self.certainty is None else self.certainty.parameters())]

    def stock_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the encoder and its stock head."""
        return self.encoder.parameters()

    def describe(self) -> str:
        """Return a description of the exits."""
        return f"exits after layers {' '.join(map(str, self.ladder.layers))}, stopped by {self.config.rule}"

    def _start(self, hidden: Tensor, mask: Tensor) -> Running:
        size = len(hidden)
        certainty = None if self.certainty is None else hidden.new_zeros(size, 0)
        rows, places = (torch.arange(length, device=mask.device) for length in mask.shape)
        ends = torch.where(mask > 0, places + 1, 1).amax(1)
        return Running(rows, hidden, mask, ends, hidden.new_zeros(size, 0, self.shape.num_labels), certainty)

    def _advance(self, now: Running, exit: int, detach: bool = False) -> Running:
        """Run the layers up to the next exit, its head and its certainty."""
        family, stock = self.family, self.encoder
        layers, begin = self.ladder.layers, self.ladder.layers[exit - 1] if exit else 0
        mask = family.mask(stock, now.hidden, now.mask)
        extras = family.layer_extras(self._base, now.hidden, self.shape.num_heads)
        hidden = run_layers(family.depth_order(stock)[begin : layers[exit]], now.hidden, mask, extras)
        head, last = family.head(stock), exit == self.ladder.top
        pooled = self._pooled(hidden.detach() if detach and not last else hidden, now.mask, exit)
        answer = run_head(head, pooled) if last else self.heads[exit](pooled, head)
        logits = torch.cat([now.logits, answer[:, None].to(now.logits.dtype)], 1)
        return replace(now, hidden=hidden, logits=logits, certainty=self._certainty(now, pooled, last))

    def _pooled(self, hidden: Tensor, mask: Tensor, exit: int) -> Tensor:
        """Return the input of the exit's head, [b, D], after the exit's final norm if the encoder has one."""
        norm = self._final if exit == self.ladder.top else self.heads[exit].get_submodule("norm")
        states = hidden if norm is None else norm(hidden)
        return self.family.head(self.encoder).pool(states, mask)

    def _certainty(self, now: Running, first: Tensor, last: bool) -> Tensor | None:
        if self.certainty is None or now.certainty is None:
            return None
        found = first.new_full((len(first), 1), SURE) if last else self.certainty(first)
        return torch.cat([now.certainty, found.to(now.certainty.dtype)], 1)

    def _leaves(self, now: Running, exit: int, threshold: float) -> tuple[Tensor, Tensor]:
        """Return True for each sample that leaves at this exit, bool [b], and its `ends` [b], on the CPU. A GPU is
        waited for once, and not at the last exit."""
        if exit == self.ladder.top:
            return torch.ones(len(now.rows), dtype=torch.bool), torch.ones(len(now.rows), dtype=torch.long)
        stops = self.rule.stops(now.logits, now.certainty, self.config.tolerance, threshold)[:, -1]
        leaves, ends = torch.stack([stops.long(), now.ends]).cpu()
        return leaves > 0, ends


SURE = 1e4  # the certainty of the last exit, in logits

AutoConfig.register(ExitsConfig.model_type, ExitsConfig, exist_ok=True)
AutoModelForSequenceClassification.register(ExitsConfig, ExitsForSequenceClassification, exist_ok=True)
