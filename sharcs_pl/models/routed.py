"""The routed model, a full-width trunk, a router, and a tail per rung on shared weights (SHARCS, arXiv 2310.12126).

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils.generic import can_return_tuple

from sharcs_pl.core.cascade import first_rungs
from sharcs_pl.core.decision import rules_of
from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.models.base import LadderModel, settings_of
from sharcs_pl.models.configuration import SharcsConfig
from sharcs_pl.models.decision import Decision, decide, run_given, run_rule
from sharcs_pl.models.families import FAMILIES, Family
from sharcs_pl.models.layers import LearnedPooling, Tail, run_layers
from sharcs_pl.models.outputs import EveryRung, SharcsOutput, TrunkState
from sharcs_pl.models.pretrained import Source, align, cast, load_stock, saved_type, stock_from_dict
from sharcs_pl.models.router import Router, given_rungs, warn_of_untrained
from sharcs_pl.models.running_tokens import (
    Decided,
    Drawn,
    keep_all_at_first,
    layer_runner,
    make_predictors,
    skim_layers,
    skim_size,
)
from sharcs_pl.models.sweeps import SweptPoint, sweep_rule
from sharcs_pl.models.tails import check_cut, cost_of, make_tails, top_norms

__all__ = ["SharcsConfig", "SharcsForSequenceClassification", "SharcsOutput", "TrunkState"]


class SharcsForSequenceClassification(LadderModel):
    """A stock encoder whose layers after `split_layer` run at a width chosen per sample.

    Rung i runs the tail on the leading r_i of the hidden dims, heads and feed-forward neurons. The top rung is not cut,
    so with `top_rung_norm=False` its logits equal the stock model's bit for bit.
    """

    config: SharcsConfig
    ladder: WidthLadder  # pyright: ignore[reportIncompatibleVariableOverride]
    cost: CostModel  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = SharcsConfig
    __call__: Callable[..., SharcsOutput]
    supports_gradient_checkpointing = True

    def __init__(self, config: SharcsConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        assert config.encoder
        assert config.num_labels is not None
        self.encoder = encoder or stock_from_dict(config.encoder, config.num_labels, config._attn_implementation)
        self.ladder = WidthLadder.parse(config.widths)
        self.split_layer = config.split_layer
        self.shape = self.family.shape(self.encoder)
        check_cut(config, self.family, self.shape, self.ladder)
        units, routed = config.router_hidden_size, len(self.ladder) > 1 and config.router_hidden_size > 0
        self.router = Router(self.shape.hidden_size, units, len(self.ladder)) if routed else None
        # A predictor runs before each layer of the trunk and before the tail.
        number, hidden = config.split_layer + 1, self.shape.hidden_size
        self.predictors = make_predictors(hidden, config.skim, number) if config.skim else None
        self.cost = cost_of(config, self.shape, self.ladder, routed)
        self.post_init()
        # post_init would draw every norm afresh, also these slices of pretrained norms, so they are added after it.
        self.tails = make_tails(config, self.encoder, self.cost)

    @classmethod
    def from_encoder(
        cls,
        source: Source,
        *,
        widths: Sequence[float | int | str | Fraction],
        split_layer: int,
        num_labels: int | None = None,
        problem_type: str | None = None,
        router_hidden_size: int = 64,
        router_threshold: float | None = None,
        reduction: str = "slice",
        norm_init: str = "pretrained",
        top_rung_norm: bool = False,
        dropout: float | None = None,
        cut: str = "full",
        skim: bool = False,
    ) -> Self:
        """Perform surgery on a stock encoder, given as a folder, a hub id or a model object (which is copied).

        `num_labels`, `problem_type` and `dropout` None keep the checkpoint's. Router and missing parts of the head are
        drawn from the global torch generator. The model is in evaluation mode. `router_hidden_size=0` makes no router.
        `skim` adds predictors that skip tokens, hardly any before training. Raise `ValueError` naming the config key at
        fault: `encoder.pretrained`, `method.cut`, `method.skim_weight`, or one of `width.*`.
        """
        labels = WidthLadder.parse(widths).labels()
        stock = load_stock(source, num_labels, dropout)
        config = SharcsConfig(
            widths=labels,
            split_layer=split_layer,
            reduction=reduction,
            norm_init=norm_init,
            top_rung_norm=top_rung_norm,
            router_hidden_size=router_hidden_size,
            router_threshold=router_threshold,
            cut=cut,
            skim=skim_size(stock.config) if skim else 0,
            **settings_of(stock, num_labels, problem_type),
        )
        model = cls(config, stock).eval()
        keep_all_at_first(model.predictors or ())
        return cast(model, stock.dtype, stock.device)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """Load as `LadderModel.from_pretrained` does. A stock checkpoint with a head, such as a dense run writes,
        becomes a model of one width."""
        found = saved_type(*args, **kwargs)
        if found in FAMILIES:
            return cls._around_stock(FAMILIES[found], *args, **kwargs)
        return super().from_pretrained(*args, **kwargs)

    @classmethod
    def _around_stock(cls, family: Family, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        stock, info = family.stock_class.from_pretrained(*args, output_loading_info=True, **kwargs)
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"]))
            raise ValueError(f"{args[0]} is not a routed model, nor a classifier (without {missing}); use from_encoder")
        align(stock)
        model = cls.from_encoder(stock, widths=[1], split_layer=1, router_hidden_size=0)
        return (model, info) if output_loading_info else model

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        rungs: int | Tensor | None = None,
        memberships: Tensor | None = None,
        **extras: Any,
    ) -> SharcsOutput:
        """Run a pass over a batch with any mixture of rungs.

        `input_ids`, `attention_mask`, `token_type_ids`: [B, L] long, the last two optional. `rungs`: None for the rule
        in use, an int for every sample, or [B] long. `labels` ([B]; values if `num_labels` is 1; [B, C] if each is a
        label of its own) adds `task_loss`, `memberships` [B, W] adds `router_loss`, and `loss` is their sum. `extras`:
        `inputs_embeds` [B, L, E] in the place of `input_ids`, `position_ids` [B, L] if the embeddings read them; others
        are ignored. Raise `ValueError` for a rung off the ladder, and for an input of stock models that is not taken.
        """
        warn_of_untrained(self, rungs, memberships)
        state = self.trunk(input_ids, attention_mask, token_type_ids, **self.embedded(extras))
        return SharcsOutput.of(self._decided(state, rungs), state.router_logits, labels, memberships, self.kind)

    def trunk(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        draw: bool = False,
        **embedded: Tensor,
    ) -> TrunkState:
        """Run the embeddings, the first `split_layer` layers at full width, and the router, with the inputs of
        `forward`. `draw`: draw the kept tokens as in training, if tokens are skimmed."""
        state = self.before_router(input_ids, attention_mask, token_type_ids, draw, **embedded)
        logits = None if self.router is None else self.router(state.hidden, state.attention_mask)
        return replace(state, router_logits=logits)

    def before_router(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        draw: bool = False,
        **embedded: Tensor,
    ) -> TrunkState:
        """Run the trunk without the router, with the inputs of `trunk`."""
        hidden, attention_mask = self.embed(input_ids, attention_mask, token_type_ids, **embedded)
        layers = self.family.depth_order(self.encoder)[: self.split_layer]
        if self.predictors is not None:
            return self._skimmed(hidden, attention_mask > 0, layers, draw)
        extras = self.family.layer_extras(self._base, hidden, self.shape.num_heads)
        mask = self.family.mask(self.encoder, hidden, attention_mask)
        return TrunkState(run_layers(layers, hidden, mask, extras), attention_mask)

    def _skimmed(self, hidden: Tensor, valid: Tensor, layers: Sequence[nn.Module], draw: bool) -> TrunkState:
        """Run `layers` with skimming, and return the state with the tokens for the tail."""
        assert self.predictors is not None
        begin = Drawn.begin(hidden, valid) if draw else Decided.begin(hidden, valid, self.config.skim_threshold)
        tokens, counts = skim_layers(begin, self.predictors, layers, layer_runner(self.family, self.encoder))
        return TrunkState(tokens.hidden, tokens.running.long(), counts=counts, gate=tokens.gate)

    def tail(self, state: TrunkState, rung: int) -> Tensor:
        """Return the logits [B, C] of every sample of `state` at a rung."""
        tail = self._tail(rung)
        hidden = tail.enter(state.hidden)
        if state.gate is not None:  # applied after the norm, which cancels a factor and its gradient
            hidden = hidden * state.gate.unsqueeze(-1)
        return self.after_cut(tail, hidden, state.attention_mask)

    def after_cut(self, tail: Tail, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits [B, C] of a rung from the output [B, L, D_i] of `Tail.enter` and a mask [B, L]."""
        family, stock = self.family, self.encoder
        extras = family.layer_extras(family.base_of(stock), hidden, tail.size.heads, tail)
        hidden = tail.run(hidden, family.mask(stock, hidden, attention_mask), extras)
        head = family.head(stock)
        pooled = head.input_dropout(head.pool(hidden, attention_mask))
        return head.output(head.dropout(head.activation(tail.head_dense(pooled))))

    def decide(self, logits: Tensor, signals: Tensor | None) -> Decision:
        """Return the decision by the operating point in use; without a router, the router's rule takes the top rung."""
        return decide(self.config.decision(), logits, None if self.router is None else signals)

    @property
    def own_rule(self) -> str:
        """The name of the rule in use, one of `RULES`."""
        return self.config.decision().name

    def sweep(self, logits: Tensor, signals: Tensor | None) -> dict[str, list[SweptPoint]]:
        """Return the settings of every rule that the model can have, with the decisions that they give."""
        rules = rules_of(len(self.ladder), self.router is not None, logits.shape[2], bool(self.config.skim))
        return {rule: sweep_rule(rule, logits, signals, self.kind.multi_label, self.config.certainty) for rule in rules}

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that surgery adds: private norms, learned reductions, router and predictors."""
        return [p for part in (self.tails, self.router, self.predictors) if part is not None for p in part.parameters()]

    def describe(self) -> str:
        """Return a description of the ladder."""
        plural = "s" if len(self.ladder) > 1 else ""
        skimmed = ", tokens skimmed on the way" if self.config.skim else ""
        return f"width{plural} {' '.join(self.ladder.labels())} after layer {self.split_layer}{skimmed}"

    def set_operating_point(self, name: str | None) -> None:
        """Route by a stored operating point, or by the rule of training for None or "trained". `save_pretrained` keeps
        it. Raise `ValueError` listing the known points."""
        self.config.decision(name)
        self.config.operating_point = None if name == TRAINED else name

    def all_rungs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> EveryRung:
        """Run every sample on every rung after a shared trunk. The signals are the router's logits."""
        state = self.trunk(input_ids, attention_mask, token_type_ids)
        logits = [self.tail(state, rung) for rung in range(len(self.ladder))]
        macs = None
        if state.counts is not None:
            macs = torch.from_numpy(self.cost.skimmed_macs(state.counts.cpu().numpy())).double()
        return EveryRung(torch.stack(logits, dim=1), state.router_logits, macs)

    def idle_parameters(self, rungs: Collection[int], routed: bool) -> list[nn.Parameter]:
        """Return the parameters without a gradient from batches at these `rungs`, with the router unless `routed`."""
        busy = [p for rung in rungs for p in self._tail(rung).parameters_in_use()]
        if routed and self.router is not None:
            busy += self.router.parameters()
        in_use = {id(p) for p in busy}
        return [p for p in self.rung_dependent_parameters() if id(p) not in in_use]

    def _tail(self, rung: int) -> Tail:
        tail = self.tails[rung]
        assert isinstance(tail, Tail)
        return tail

    def rung_dependent_parameters(self) -> list[nn.Parameter]:
        """Return all parameters that get a gradient only in some steps, depending on their rungs: the tails' own norms
        and reductions, the stock norms that only the top rung's tail runs, and the router."""
        owners = [self.tails, *top_norms(self.family, self.encoder, self.split_layer), *filter(None, [self.router])]
        return list({id(p): p for owner in owners for p in owner.parameters()}.values())

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LearnedPooling):
            module.reset_parameters()

    def _decided(self, state: TrunkState, rungs: int | Tensor | None) -> Decision:
        """Run the tails that the rule in use, or `rungs`, asks for."""
        size, top, device = state.hidden.shape[0], self.ladder.top, state.hidden.device

        def run(rows: Tensor | None, rung: int) -> Tensor:
            return self.tail(state if rows is None else state.select(rows), rung)

        rule = self.config.decision()
        if rungs is None and (rule.cascades or self.router is not None):
            first = first_rungs(rule, state.router_logits, size, top, torch).to(device, non_blocking=True)
            return run_rule(rule, first, top + 1, run)
        rungs = top if rungs is None else rungs
        given = given_rungs(rungs, size, top).to(device, non_blocking=True)
        return Decision(given, given, run(None, rungs)) if isinstance(rungs, int) else run_given(given, run)


AutoModelForSequenceClassification.register(SharcsConfig, SharcsForSequenceClassification, exist_ok=True)
