"""The engine from token ids to answers: the trunk on a batch, then one pass of a rung's tail over its samples.

A sample that a cascade sends on keeps the trunk's output and runs the next rung's tail alone. `Engine.answer` finishes
a batch at once. A `PooledRun` keeps small groups in their rung's pool until that is full.

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels; an index `i` marks the dimension at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.inference.fused import FusedModel
from sharcs_pl.inference.layout import Layout, layout_of
from sharcs_pl.inference.plain import RungTail
from sharcs_pl.inference.pools import Group, RungPool, join
from sharcs_pl.models.decision import answers, certainties, first_rungs, stops_at
from sharcs_pl.models.pretrained import cast
from sharcs_pl.models.routed import SharcsForSequenceClassification

PACK_ABOVE = 0.05  # share of padding from where on packing was no slower at any shape measured (2 CPU cores)


@dataclass(frozen=True)
class Batch:
    """Tokenised samples: `index` [B] long, the caller's numbers for them; `input_ids` [B, L] long, padded on the right;
    `lengths` [B] long, real tokens; `token_type_ids` [B, L] long, where the encoder has them. All on the CPU."""

    index: Tensor
    input_ids: Tensor
    lengths: Tensor
    token_type_ids: Tensor | None = None


@dataclass(frozen=True)
class Answers:
    """Answers to samples: `index` [B] long, `logits` [B, C] float32 (log-probabilities where a cascade averages),
    `rungs` [B] long, `router_logits` [B, W] float32 (W is 0 where no router decides), `lengths` [B] long, `first` [B]
    long (the rung that each began at), `certainties` [B, W] float32 (of a cascade, at the rungs that ran; else W is 0);
    all on the CPU."""

    index: Tensor
    logits: Tensor
    rungs: Tensor
    router_logits: Tensor
    lengths: Tensor
    first: Tensor
    certainties: Tensor


class Engine:
    """A routed model ready to answer. It reads the model's own weights: train or load into another one meanwhile.

    Args:
        point: name of an operating point; None for the one that the model has in use.
        precision: "float32", or "bfloat16" (a copy of the model; the router's weights, mean and logits stay float32).
        compile: `torch.compile` for the trunk and for each rung, with dynamic shapes.
        pack_narrow: contiguous copies of the narrow rungs' weights; `fused.packed_bytes` says what they take.
        pack_above: tokens are packed where more than this share of a batch or group would be padding; 1 for never.
        compile_backend: backend of `torch.compile`.
    """

    def __init__(
        self,
        model: SharcsForSequenceClassification,
        *,
        point: str | None = None,
        precision: str = "float32",
        compile: bool = False,
        pack_narrow: bool = True,
        pack_above: float = PACK_ABOVE,
        compile_backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        model.config.check_all_tokens()
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision} is unknown; choose one of: {', '.join(PRECISIONS)}")
        dtype = PRECISIONS[precision]
        self.model = model.eval() if model.dtype == dtype else cast(copy.deepcopy(model).eval(), dtype)
        self.rule = rule_of(model, point)
        router = model.router if self.model is model else copy.deepcopy(model.router)
        self.fused = FusedModel(self.model, pack_narrow, router).eval()
        self.compiled = compile
        self.pack_above = 1.0 if compile else pack_above  # one graph for batches with and without padding
        if compile:
            for part in (self.fused.trunk, *self.fused.tails):
                part.compile(dynamic=True, backend=compile_backend)

    def at(self, point: str | None) -> Engine:
        """Return an engine at another operating point that shares all weights with this one."""
        return self.with_rule(rule_of(self.model, point))

    def with_rule(self, rule: DecisionRule) -> Engine:
        """Return an engine of another rule that shares all weights with this one."""
        other = copy.copy(self)
        other.rule = rule
        return other

    @torch.inference_mode()
    def answer(self, batch: Batch, rungs: Tensor | None = None) -> Answers:
        """Answer every sample of a batch; `rungs` [B] long overrides the rule."""
        waiting = self.groups(batch, rungs)
        found: list[Answers] = []
        for rung in range(len(self.model.ladder)):
            here = [group for group in waiting if group.rung == rung]
            if here:
                answers, onward = self.tail(join(here))
                found += answers
                waiting += onward
        return _join(found)

    def pooled(self, pool_size: int) -> PooledRun:
        """Return a run over many batches whose rungs wait for full groups of `pool_size` samples."""
        return PooledRun(self, pool_size)

    def groups(self, batch: Batch, rungs: Tensor | None) -> list[Group]:
        """Run the trunk on a batch; return its samples by the rung that they begin at, narrow first."""
        device, size = self.model.device, len(batch.index)
        layout = self._layout(batch.lengths)
        types = None if batch.token_type_ids is None else batch.token_type_ids.to(device)
        hidden, logits = self.fused.trunk(batch.input_ids.to(device), types, layout, self.rule.routed)
        router_logits = None if logits is None else logits.cpu()
        first = first_rungs(self.rule, router_logits, size, self.model.ladder.top) if rungs is None else rungs
        scores = torch.zeros(size, 0) if router_logits is None else router_logits
        goes_on = rungs is None and self.rule.cascades
        seen = torch.zeros(size, len(self.model.ladder) if goes_on else 0, self.model.shape.num_labels)
        whole = Group(0, batch.index, _packed(hidden, layout), batch.lengths, scores, first, seen)
        groups = [(rung, whole.select((first == rung).nonzero().flatten())) for rung in first.unique().tolist()]
        return [self._placed(group, rung, goes_on) for rung, group in groups]

    def _placed(self, group: Group, rung: int, goes_on: bool) -> Group:
        """Return the group at its rung; where all samples stop there, their hidden states are cut at once."""
        return replace(group, rung=rung, hidden=group.hidden if goes_on else self._rung(rung).enter(group.hidden))

    def tail(self, group: Group) -> tuple[list[Answers], list[Group]]:
        """Run the tail on one group; return the answers of the samples that stop, and the others at the next rung."""
        layout, tail = self._layout(group.lengths), self._rung(group.rung)
        goes_on = group.seen.shape[1] > 0
        hidden = tail.enter(group.hidden) if goes_on else group.hidden
        logits = tail(_laid_out(hidden, len(group), layout), layout).float().cpu()
        if not goes_on:
            return [_answers(group, logits, torch.zeros(len(group), 0))], []
        seen = group.seen.clone()
        seen[:, group.rung] = logits
        group = replace(group, seen=seen)
        sure = certainties(self.rule, seen, group.first)
        stops = stops_at(self.rule, sure)[:, group.rung]
        stops |= torch.tensor(group.rung == self.model.ladder.top)  # also where the certainty is NaN
        answer = answers(self.rule, seen, group.first)[:, group.rung]
        rows, others = stops.nonzero().flatten(), (~stops).nonzero().flatten()
        found = [_answers(group.select(rows), answer[rows], sure[rows])] if len(rows) else []
        onward = replace(group.select(others), rung=group.rung + 1)
        return found, [onward] if len(others) else []

    def _layout(self, lengths: Tensor) -> Layout:
        return layout_of(lengths, self.pack_above, self.compiled, self.model.device)

    def _rung(self, rung: int) -> RungTail:
        tail = self.fused.tails[rung]
        assert isinstance(tail, RungTail)
        return tail


class PooledRun:
    """A run over many batches; at most `pool_size` - 1 samples of a rung wait between two calls."""

    def __init__(self, engine: Engine, pool_size: int) -> None:
        self.engine = engine
        self.pools = [RungPool(rung, pool_size) for rung in range(len(engine.model.ladder))]

    @torch.inference_mode()
    def add(self, batch: Batch, rungs: Tensor | None = None) -> list[Answers]:
        """Add a batch; return the answers it completes, also of earlier samples. `rungs` [B] overrides the rule."""
        return [answers for group in self.engine.groups(batch, rungs) for answers in self._add(group)]

    @torch.inference_mode()
    def flush(self, before: int | None = None) -> list[Answers]:
        """Answer the waiting samples; with `before`, only in the pools that hold a sample with a smaller index."""
        found: list[Answers] = []
        for pool in self.pools:  # narrow first: what goes on is flushed at the next one
            if pool.waiting and (before is None or pool.oldest < before):
                found += self._run(pool.take())
        return found

    def _add(self, group: Group) -> list[Answers]:
        return [answers for full in self.pools[group.rung].add(group) for answers in self._run(full)]

    def _run(self, group: Group) -> list[Answers]:
        found, onward = self.engine.tail(group)
        return [*found, *(answers for later in onward for answers in self._add(later))]


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def rule_of(model: SharcsForSequenceClassification, point: str | None) -> DecisionRule:
    """Return the rule of an operating point. Raise `ValueError` where the model cannot have it."""
    rule = model.config.decision(point)
    if rule.cascades or rule.starts is not None:  # without a router, the rule of training takes the top rung
        rule.check(model.ladder.labels(), model.router is not None, model.shape.num_labels)
    return rule


def _answers(group: Group, logits: Tensor, sure: Tensor) -> Answers:
    rungs = torch.full_like(group.index, group.rung)
    return Answers(group.index, logits, rungs, group.router_logits, group.lengths, group.first, sure)


def _packed(hidden: Tensor, layout: Layout) -> Tensor:
    """Return the trunk's output as packed tokens [T, D]."""
    if layout.places is not None:
        return hidden
    flat = hidden.flatten(0, 1)
    return flat if layout.mask is None else flat[layout.mask.flatten().nonzero().flatten()]


def _laid_out(tokens: Tensor, size: int, layout: Layout) -> Tensor:
    """Return packed tokens [T, D_i] in the form that a layout has them."""
    if layout.places is not None:
        return tokens
    if layout.mask is None:
        return tokens.unflatten(0, (size, -1))
    places = layout.mask.flatten().nonzero().flatten()
    return Layout(layout.mask, places).spread(tokens)


def _join(parts: list[Answers]) -> Answers:
    names = [field.name for field in fields(Answers)]
    return parts[0] if len(parts) == 1 else Answers(*(torch.cat([getattr(p, name) for p in parts]) for name in names))
