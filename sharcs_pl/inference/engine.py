"""The engine from token ids to answers: the trunk on a batch, then one pass of a rung's tail over its samples.

`Engine.answer` finishes a batch at once. A `PooledRun` keeps small groups in their rung's pool until that is full.

Dimensions: `B` batch, `L` tokens, `D` hidden, `W` rungs, `C` labels; an index `i` marks the dimension at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharcs_pl.inference.fused import FusedModel
from sharcs_pl.inference.layout import Layout, layout_of, real_tokens
from sharcs_pl.inference.plain import RungTail
from sharcs_pl.inference.pools import Group, RungPool
from sharcs_pl.models.pretrained import cast
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.router import choose_rungs

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
    """Answers to samples: `index` [B] long, `logits` [B, C] float32, `rungs` [B] long, `router_logits` [B, W] float32
    (W may be 0), `lengths` [B] long; all on the CPU."""

    index: Tensor
    logits: Tensor
    rungs: Tensor
    router_logits: Tensor
    lengths: Tensor


class Engine:
    """A routed model ready to answer. It reads the model's own weights: train or load into another one meanwhile.

    Args:
        point: name of an operating point; None for the one that the model has in use.
        precision: "float32", or "bfloat16" (a copy of the model; the router's weights, mean and logits stay float32).
        compile: `torch.compile` for the trunk and for each rung, with dynamic shapes.
        pack_narrow: contiguous copies of the narrow rungs' weights; `packed_bytes` says what they take.
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
        dtype = PRECISIONS[precision]
        self.model = model.eval() if model.dtype == dtype else cast(copy.deepcopy(model).eval(), dtype)
        self.thresholds = _thresholds(model, point)
        router = model.router if self.model is model else copy.deepcopy(model.router)
        self.fused = FusedModel(self.model, pack_narrow, router).eval()
        self.compiled = compile
        self.pack_above = 1.0 if compile else pack_above  # one graph for batches with and without padding
        if compile:
            for part in (self.fused.trunk, *self.fused.tails):
                part.compile(dynamic=True, backend=compile_backend)

    def at(self, point: str | None) -> Engine:
        """Return an engine at another operating point that shares all weights with this one."""
        other = copy.copy(self)
        other.thresholds = _thresholds(self.model, point)
        return other

    @property
    def packed_bytes(self) -> int:
        """The memory of the narrow rungs' own copies of weights, in bytes."""
        return self.fused.packed_bytes

    @torch.inference_mode()
    def answer(self, batch: Batch, rungs: Tensor | None = None) -> Answers:
        """Answer every sample of a batch; `rungs` [B] long overrides the router."""
        groups = self.groups(batch, rungs)
        return _join([self.tail(group) for group in groups])

    def pooled(self, pool_size: int) -> PooledRun:
        """Return a run over many batches whose rungs wait for full groups of `pool_size` samples."""
        return PooledRun(self, pool_size)

    def groups(self, batch: Batch, rungs: Tensor | None) -> list[Group]:
        """Run the trunk on a batch; return its samples by rung, narrow first, each cut to its rung's hidden size."""
        device = self.model.device
        layout = self._layout(batch.lengths)
        types = None if batch.token_type_ids is None else batch.token_type_ids.to(device)
        hidden, logits = self.fused.trunk(batch.input_ids.to(device), types, layout)
        tokens = _packed(hidden, layout)
        size = len(batch.index)
        router_logits = torch.zeros(size, 0) if logits is None else logits.cpu()
        return list(self._split(batch, tokens, self._choose(router_logits, rungs), router_logits))

    def _choose(self, router_logits: Tensor, rungs: Tensor | None) -> Tensor:
        """Return the rung of each sample, [B] long."""
        if rungs is not None:
            return rungs
        if self.model.router is None:
            return torch.full((len(router_logits),), self.model.ladder.top)
        return choose_rungs(router_logits, self.thresholds)

    def _split(self, batch: Batch, tokens: Tensor, rungs: Tensor, router_logits: Tensor) -> Iterator[Group]:
        for rung in rungs.unique().tolist():
            rows = (rungs == rung).nonzero().flatten()
            own = tokens if len(rows) == len(rungs) else tokens[real_tokens(batch.lengths, rows).to(tokens.device)]
            yield Group(rung, batch.index[rows], self._rung(rung).enter(own), batch.lengths[rows], router_logits[rows])

    def tail(self, group: Group) -> Answers:
        """Run the tail on one group and return its answers."""
        layout = self._layout(group.lengths)
        logits = self._rung(group.rung)(_laid_out(group.hidden, len(group), layout), layout)
        rungs = torch.full_like(group.index, group.rung)
        return Answers(group.index, logits.float().cpu(), rungs, group.router_logits, group.lengths)

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
        """Add a batch; return the answers it completes, also of earlier samples. `rungs` [B] overrides the router."""
        groups = self.engine.groups(batch, rungs)
        return [self.engine.tail(full) for group in groups for full in self.pools[group.rung].add(group)]

    @torch.inference_mode()
    def flush(self, before: int | None = None) -> list[Answers]:
        """Answer the waiting samples; with `before`, only in the pools that hold a sample with a smaller index."""
        waiting = [pool for pool in self.pools if pool.waiting]
        late = [pool for pool in waiting if before is None or pool.oldest < before]
        return [self.engine.tail(pool.take()) for pool in late]


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _thresholds(model: SharcsForSequenceClassification, point: str | None) -> Tensor | None:
    found = model.config.decision(point).starts
    return None if found is None else torch.tensor(found)


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
    names = ("index", "logits", "rungs", "router_logits", "lengths")
    return parts[0] if len(parts) == 1 else Answers(*(torch.cat([getattr(p, name) for p in parts]) for name in names))
