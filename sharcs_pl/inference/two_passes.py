"""A cascade in two passes over the texts: the first rung for all of them, then the later rungs for those left.

Each pass runs one kind of work in uniform batches. A text that goes on pays the trunk a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sharcs_pl.inference.predictor import Prediction, RoutedPredictor, Text


@dataclass(frozen=True)
class Deferred:
    """A text that the first pass leaves to the second: the rung on which it ran, and its logits there."""

    rung: int
    logits: tuple[float, ...]


def first_pass(predictor: RoutedPredictor, texts: Sequence[Text]) -> list[Prediction | Deferred | None]:
    """Run the first rung on texts; return in their order the answers of those that stop there, and for the others what
    `second_pass` needs. None stands for an answer that is not finite."""
    found: dict[int, Prediction | Deferred | None] = {}
    for batch in predictor.batches(texts, 0):
        answers, onward = predictor.engine.begin(batch)
        for stopped in answers:
            found |= predictor.predictions(stopped)
        for group in onward:
            logits = group.seen[np.arange(len(group)), group.first]
            found |= {
                index: Deferred(first, tuple(row))
                for index, first, row in zip(group.index.tolist(), group.first.tolist(), logits.tolist(), strict=True)
            }
    return [found[index] for index in range(len(texts))]


def second_pass(
    predictor: RoutedPredictor, texts: Sequence[Text], deferred: Sequence[Deferred]
) -> list[Prediction | None]:
    """Answer the texts that the first pass has left. Their `macs` are those of both passes."""
    found: dict[int, Prediction | None] = {}
    rungs = np.array([each.rung for each in deferred], np.int64)
    logits = np.array([each.logits for each in deferred], np.float32)
    cost = predictor.cost
    for batch in predictor.batches(texts, 0):
        answers = predictor.engine.go_on(batch, rungs[batch.index], logits[batch.index])
        again = cost.trunk_macs(answers.lengths) - (0 if predictor.rule.routed else cost.router_macs())
        trunk = dict(zip(answers.index.tolist(), again.tolist(), strict=True))
        for index, answer in predictor.predictions(answers).items():
            found[index] = None if answer is None else replace(answer, macs=answer.macs + trunk[index])
    return [found[index] for index in range(len(texts))]
