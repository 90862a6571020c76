"""A cascade in two passes answers as one pass does, and what it costs more is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
from sharcs_pl.inference.two_passes import Deferred, first_pass, second_pass
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.made import texts

GIVEN = texts(60)


def cascading(folder: Path, name: str, average: bool) -> RoutedPredictor:
    """A predictor whose cascade sends about half of `GIVEN` on at each of its three widths."""
    model = SharcsForSequenceClassification.from_pretrained(folder)
    assert isinstance(model, SharcsForSequenceClassification)
    starts = [0.0, -30.0] if name == "router+cascade" else None
    point = {"rule": name, "thresholds": starts, "certainty": "probability", "average": average}
    model.config.operating_points = {"all": point | {"stops": [1.0, 1.0]}}
    sure = np.array(
        [each.certainties[0] for each in RoutedPredictor(model, word_tokenizer(), point="all").predict(GIVEN)]
    )
    half = float(np.sort(sure)[29:31].mean())
    model.config.operating_points = {"half": point | {"stops": [half, half]}}
    return RoutedPredictor(model, word_tokenizer(), point="half", max_length=32, batch_size=8)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("name", ["cascade", "router+cascade"])
def test_two_passes_answer_as_one(folder: Path, name: str, average: bool) -> None:
    predictor = cascading(folder, name, average)
    expected = predictor.predict(GIVEN)
    first = first_pass(predictor, GIVEN)
    left = {at: found for at, found in enumerate(first) if isinstance(found, Deferred)}
    assert 10 < len(left) < 50
    last = second_pass(predictor, [GIVEN[at] for at in left], list(left.values()))
    again = dict(zip(left, last, strict=True))
    trunk = predictor.cost.trunk_macs(predictor.tokenize(GIVEN).lengths)
    trunk -= 0 if predictor.rule.routed else predictor.cost.router_macs()
    for at, wanted in enumerate(expected):
        found = again.get(at, first[at])
        assert isinstance(found, Prediction)
        assert found.macs == wanted.macs + (int(trunk[at]) if at in left else 0)
        for mine, theirs in ((found.probabilities, wanted.probabilities), (found.certainties, wanted.certainties)):
            rest = theirs[len(theirs) - len(mine) :]
            torch.testing.assert_close(torch.tensor(mine), torch.tensor(rest), atol=1e-5, rtol=1e-5)
        assert replace(found, macs=0, probabilities=(), certainties=(), router_scores=()) == replace(
            wanted, macs=0, probabilities=(), certainties=(), router_scores=()
        )


def test_the_first_pass_runs_no_later_tail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = cascading(folder, "cascade", False)
    ran: list[int] = []
    tail = predictor.engine.backend.tail
    monkeypatch.setattr(predictor.engine.backend, "tail", lambda rung, *given: ran.append(rung) or tail(rung, *given))
    left = [found for found in first_pass(predictor, GIVEN) if isinstance(found, Deferred)]
    assert set(ran) == {0}
    ran.clear()
    second_pass(predictor, GIVEN[: len(left)], left)
    assert set(ran) == {1, 2}


def test_no_texts_are_no_work(folder: Path) -> None:
    predictor = cascading(folder, "cascade", False)
    assert first_pass(predictor, []) == []
    assert second_pass(predictor, [], []) == []
