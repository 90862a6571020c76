"""The engine from token ids to answers: the trunk on a batch, then one pass of a rung's tail over its samples.

A sample that a cascade sends on keeps the trunk's output and runs the next rung's tail alone. `Engine.answer` finishes
a batch at once. A `PooledRun` keeps small groups in their rung's pool until that is full. Loads no torch: a `Backend`
runs the parts of the model.

Dimensions: `B` batch, `W` rungs, `C` labels.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np

from sharcs_pl.core.cascade import answers, certainties, first_rungs, stops_at
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.inference.batches import Answers, Backend, Batch, cuts
from sharcs_pl.inference.pools import Group, RungPool, join


class Engine:
    """A routed model ready to answer by a rule."""

    def __init__(self, backend: Backend, rule: DecisionRule) -> None:
        self.backend = backend
        self.rule = rule

    def with_rule(self, rule: DecisionRule) -> Engine:
        """Return an engine of another rule on the same parts."""
        other = copy.copy(self)
        other.rule = rule
        return other

    def answer(self, batch: Batch, rungs: np.ndarray | None = None) -> Answers:
        """Answer every sample of a batch; `rungs`, int64 [B], overrides the rule."""
        waiting = self.groups(batch, rungs)
        if rungs is not None or not self.rule.cascades:  # all tails start before the first one is waited for
            started = [(group, self._start(group)) for group in waiting]
            return Answers.join([_answers(group, self.backend.read(logits)) for group, logits in started])
        return self._finish(waiting)

    def begin(self, batch: Batch) -> tuple[list[Answers], list[Group]]:
        """Run a cascade's first rung alone; return the answers of the samples that stop, and the others at the next
        rung, for `go_on`."""
        found: list[Answers] = []
        waiting: list[Group] = []
        for group in self.groups(batch, None):
            answers, onward = self.tail(group)
            found += answers
            waiting += onward
        return found, waiting

    def go_on(self, batch: Batch, first: np.ndarray, logits: np.ndarray) -> Answers:
        """Answer samples that `begin` has left, from their tokens: the trunk again, then the rungs above `first`, int64
        [B], with the `logits` that were seen there, float32 [B, C]."""
        hidden, scores = self.backend.trunk(batch, self.rule.routed)
        seen = np.zeros((len(first), self.backend.num_rungs, self.backend.num_labels), np.float32)
        seen[np.arange(len(first)), first] = logits
        return self._finish(_by_rung(batch, hidden, scores, first, seen, first + 1))

    def pooled(self, pool_size: int, tokens: int | None = None) -> PooledRun:
        """Return a run over many batches whose rungs wait for full groups of `pool_size` samples. A tail runs on
        `tokens` tokens at once at most, padding included; None for any."""
        return PooledRun(self, pool_size, tokens)

    def groups(self, batch: Batch, rungs: np.ndarray | None) -> list[Group]:
        """Run the trunk on a batch; return its samples by the rung that they begin at, narrow first."""
        size, backend = len(batch.index), self.backend
        hidden, scores = backend.trunk(batch, self.rule.routed)
        first = first_rungs(self.rule, scores, size, backend.num_rungs - 1, np) if rungs is None else rungs
        goes_on = rungs is None and self.rule.cascades
        seen = np.zeros((size, backend.num_rungs if goes_on else 0, backend.num_labels), np.float32)
        return _by_rung(batch, hidden, scores, first, seen, first)

    def tail(self, group: Group) -> tuple[list[Answers], list[Group]]:
        """Run the tail on one group; return the answers of the samples that stop, and the others at the next rung."""
        logits = self.backend.read(self._start(group))
        if group.seen.shape[1] == 0:
            return [_answers(group, logits)], []
        seen = group.seen.copy()
        seen[:, group.rung] = logits
        group = replace(group, seen=seen)
        sure = certainties(self.rule, seen, group.first)
        stops = stops_at(self.rule, sure)[:, group.rung]
        stops |= group.rung == self.backend.num_rungs - 1  # also where the certainty is NaN
        answer = answers(self.rule, seen, group.first)[:, group.rung]
        rows, others = np.flatnonzero(stops), np.flatnonzero(~stops)
        found = [_answers(group.select(rows), answer[rows], sure[rows])] if len(rows) else []
        onward = replace(group.select(others), rung=group.rung + 1)
        return found, [onward] if len(others) else []

    def _finish(self, waiting: list[Group]) -> Answers:
        """Answer all samples of some groups, every rung's in one pass."""
        found: list[Answers] = []
        waiting = list(waiting)
        for rung in range(self.backend.num_rungs):
            here = [group for group in waiting if group.rung == rung]
            if here:
                answers, onward = self.tail(join(here))
                found += answers
                waiting += onward
        return Answers.join(found)

    def _start(self, group: Group) -> object:
        return self.backend.tail(group.rung, group.hidden, group.lengths)


class PooledRun:
    """A run over many batches; at most `pool_size` - 1 samples of a rung wait between two calls."""

    def __init__(self, engine: Engine, pool_size: int, tokens: int | None = None) -> None:
        self.engine, self.tokens = engine, tokens
        self.pools = [RungPool(rung, pool_size) for rung in range(engine.backend.num_rungs)]

    def add(self, batch: Batch, rungs: np.ndarray | None = None) -> list[Answers]:
        """Add a batch; return the answers it completes, also of earlier samples. `rungs`, int64 [B], overrides the
        rule."""
        return [answers for group in self.engine.groups(batch, rungs) for answers in self._add(group)]

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
        found: list[Answers] = []
        for start, end in cuts(group.lengths, len(group), self.tokens):
            answers, onward = self.engine.tail(group.rows(start, end))
            found += [*answers, *(answers for later in onward for answers in self._add(later))]
        return found


def _by_rung(
    batch: Batch, hidden: Any, scores: np.ndarray | None, first: np.ndarray, seen: np.ndarray, rungs: np.ndarray
) -> list[Group]:
    """Return a batch behind the trunk by the next rung of each sample, `rungs` int64 [B], narrow first."""
    scores = np.zeros((len(rungs), 0), np.float32) if scores is None else scores
    whole = Group(0, batch.index, hidden, batch.lengths, scores, first, seen)
    groups = [(rung, whole.select(np.flatnonzero(rungs == rung))) for rung in np.unique(rungs).tolist()]
    return [replace(group, rung=rung) for rung, group in groups]


def _answers(group: Group, logits: np.ndarray, sure: np.ndarray | None = None) -> Answers:
    rungs = np.full_like(group.index, group.rung)
    sure = np.zeros((len(group), 0), np.float32) if sure is None else sure
    return Answers(group.index, logits, rungs, group.router_logits, group.lengths, group.first, sure)
