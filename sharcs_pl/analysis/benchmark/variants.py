"""The contenders of a benchmark: the stock model, and the routed one in every way it can run, on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from sharcs_pl.analysis.benchmark.latency import Call, Pass, Variant, batch_pass, stream_pass
from sharcs_pl.core.cascade import certainty_of, first_rungs
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.data.table import TokenTable
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.graph import input_names
from sharcs_pl.inference.parity import Answer, given_point
from sharcs_pl.models.routed import SharcsForSequenceClassification

LogitsMetric = Callable[[Tensor, Tensor], float]
"""Logits [S, C] and labels [S] to a value."""


@dataclass(frozen=True)
class Workload:
    """Samples in batches, shared by all contenders. `lengths` [S] and `labels` [S] (None where unknown) are in the
    order of the index that the batches carry."""

    batches: list[Batch]
    lengths: np.ndarray
    labels: Tensor | None
    batch_size: int
    order: str

    def __len__(self) -> int:
        return len(self.lengths)


def make_workload(table: TokenTable, batch_size: int, order: str, labelled: bool) -> Workload:
    """Make a workload in the `order` "given" or "sorted" (by length); every batch is padded to its longest sample."""
    lengths = table.lengths
    places = np.arange(len(table)) if order == "given" else np.argsort(lengths, kind="stable")
    batches = []
    for start in range(0, len(places), batch_size):
        rows = places[start : start + batch_size]
        found = table.padded(rows)
        batches.append(Batch(rows, found["input_ids"], lengths[rows], found.get("token_type_ids")))
    labels = torch.from_numpy(np.asarray(table.labels)) if labelled else None
    return Workload(batches, lengths, labels, batch_size, order)


@dataclass(frozen=True)
class VariantFactory:
    """A maker of variants for one workload; `metric` is computed where labels are known."""

    model: SharcsForSequenceClassification
    workload: Workload
    metric: LogitsMetric | None

    def stock(self, stock: nn.Module, name: str = "stock transformers") -> Variant:
        """Return the untouched class of transformers as a variant."""
        device = self.model.device

        def call(batch: Batch) -> Tensor:
            return stock(**{key: value.to(device) for key, value in tensors_of(batch).items()}).logits

        return self.dense(name, call)

    def dense(self, name: str, call: Call) -> Variant:
        """Return a function that runs the whole model as a variant."""
        return replace(self._called(name, call, 1.0), kind="dense")

    def batched(self, name: str, engine: Engine, rungs: np.ndarray | None = None) -> Variant:
        """Return the engine, batch by batch; `rungs` [S] overrides the router."""
        found = [engine.answer(batch, _of(rungs, batch)) for batch in self.workload.batches]
        rule = engine.rule if rungs is None else DecisionRule()
        call: Call = lambda batch: engine.answer(batch, _of(rungs, batch)).logits  # noqa: E731
        return self._engine(name, lambda: batch_pass(self.workload.batches, call, self.model.device), found, rule)

    def streamed(self, name: str, engine: Engine, rungs: np.ndarray | None = None) -> Variant:
        """Return the engine with a pool per rung."""
        batches = self.workload.batches
        given = None if rungs is None else [rungs[batch.index] for batch in batches]
        size, device = self.workload.batch_size, self.model.device
        _, found = stream_pass(batches, engine, size, device, given)
        rule = engine.rule if rungs is None else DecisionRule()
        return self._engine(
            f"{name}, stream", lambda: stream_pass(batches, engine, size, device, given)[0], found, rule
        )

    def graph(self, name: str, answer: Answer, rule: DecisionRule) -> Variant:
        """Return an exported graph at an operating point."""
        typed, point = "token_type_ids" in input_names(self.model), given_point(self.model, rule)

        def call(batch: Batch) -> tuple[Tensor, ...]:
            inputs = tensors_of(batch) | point
            if typed:
                inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
            return answer(inputs)

        first, rungs, top = *np.zeros((2, len(self.workload)), np.int64), self.model.ladder.top
        for batch in self.workload.batches:
            _, found, *scores = (output.numpy() for output in call(batch))
            rungs[batch.index] = found
            first[batch.index] = first_rungs(rule, scores[0] if scores else None, len(found), top, np)
        return self._called(name, lambda batch: call(batch)[0], self._macs(rungs, first, rule))

    def cascade(self, engine: Engine, share: float) -> DecisionRule:
        """Return a cascade in which about that share of the samples stops at the narrowest rung and the rest goes on to
        the widest."""
        narrow = [engine.answer(batch, np.zeros_like(batch.index)).logits for batch in self.workload.batches]
        sure = certainty_of(self.model.kind, "probability", np.concatenate(narrow))
        stop = float(np.quantile(sure, 1 - share)) if share > 0 else 1.0
        stops = (stop, *((1.0,) * (self.model.ladder.top - 1)))
        return DecisionRule("cascade", stops=stops, multi_label=self.model.kind.multi_label)

    def dealt(self, share: float, seed: int) -> np.ndarray:
        """Return rungs [S] long with that share of the samples on the narrowest rung and the rest on the widest, in
        every batch as nearly as whole samples allow."""
        generator = torch.Generator().manual_seed(seed)
        rungs = np.full(len(self.workload), self.model.ladder.top)
        seen = narrow = 0
        for batch in self.workload.batches:
            seen += len(batch.index)
            more = round(share * seen) - narrow
            rungs[batch.index[torch.randperm(len(batch.index), generator=generator)[:more].numpy()]] = 0
            narrow += more
        return rungs

    def _called(self, name: str, call: Call, macs: float) -> Variant:
        batches, device = self.workload.batches, self.model.device
        with torch.inference_mode():
            logits = [call(batch) for batch in batches]
        found = torch.empty(len(self.workload), logits[0].shape[1])
        for batch, rows in zip(batches, logits, strict=True):
            found[batch.index] = torch.as_tensor(rows).float().cpu()

        @torch.inference_mode()
        def run() -> Pass:
            return batch_pass(batches, call, device)

        return Variant(name, run, macs, self._value(name, found))

    def _engine(self, name: str, run: Callable[[], Pass], found: Sequence[Answers], rule: DecisionRule) -> Variant:
        whole = Answers.join(found)
        order = whole.index.argsort()
        macs = self._macs(whole.rungs[order], whole.first[order], rule)
        return Variant(name, run, macs, self._value(name, torch.from_numpy(whole.logits[order])))

    def _macs(self, rungs: np.ndarray, first: np.ndarray, rule: DecisionRule) -> float:
        """Return the promised cost, as a fraction of dense."""
        cost, lengths = self.model.cost, self.workload.lengths
        spent = cost.decided_macs(rule, lengths, first, rungs)
        return float(spent.sum() / cost.dense_macs(lengths).sum())

    def _value(self, name: str, logits: Tensor) -> float | None:
        faulty = (~logits.isfinite().all(-1)).nonzero().flatten()
        if len(faulty):
            many = f"{len(faulty):,} of {len(logits):,} texts"
            raise ValueError(f"{name}: the answers to {many} are not finite; a model that has diverged is not timed")
        labels = self.workload.labels
        return None if labels is None or self.metric is None else self.metric(logits, labels)


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """Return a batch as the keyword arguments of a stock model, tensors [B, L] long."""
    mask = (np.arange(batch.input_ids.shape[1]) < batch.lengths[:, None]).astype(np.int64)
    found = {"input_ids": batch.input_ids, "attention_mask": mask, "token_type_ids": batch.token_type_ids}
    return {name: torch.from_numpy(array) for name, array in found.items() if array is not None}


def _of(rungs: np.ndarray | None, batch: Batch) -> np.ndarray | None:
    return None if rungs is None else rungs[batch.index]
