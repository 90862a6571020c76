"""One ONNX graph in the place of an engine: answers to batches, behind an operating point or at one rung."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sharcs_pl.core.cascade import first_rungs
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.export import onnx_answer
from sharcs_pl.inference.graph import input_names
from sharcs_pl.inference.parity import given_point
from sharcs_pl.inference.parts import graph_inputs
from sharcs_pl.models.routed import SharcsForSequenceClassification


def graph_answers(
    path: Path, model: SharcsForSequenceClassification, rule: DecisionRule, rung: int | None
) -> Callable[[Batch], Answers]:
    """Return a function that answers a batch with the file exported of a model, or of one of its rungs."""
    run, names = onnx_answer(path), input_names(model, rung)
    point, top = given_point(model, rule, rung), model.ladder.top

    def answer(batch: Batch) -> Answers:
        inputs = graph_inputs(batch, "token_type_ids" in names)
        given = {name: torch.from_numpy(array) for name, array in inputs.items()}
        logits, *others = (output.numpy() for output in run(given | point))
        rungs, *scores = others or [np.full_like(batch.index, rung or 0)]
        first = first_rungs(rule, scores[0] if scores else None, len(rungs), top, np) if point else rungs
        nothing = np.zeros((len(rungs), 0), np.float32)
        return Answers(batch.index, logits, rungs, scores[0] if scores else nothing, batch.lengths, first, nothing)

    return answer
