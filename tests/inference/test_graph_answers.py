"""One graph answers batches as the engine does, with the rung at which each text began."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.export import export_onnx
from sharcs_pl.inference.graph_answers import graph_answers
from sharcs_pl.inference.torch_backend import TorchBackend
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.made import batch

pytest.importorskip("onnxscript")  # of the extra [onnx]
pytest.importorskip("onnxruntime")

RULES = {
    "router": DecisionRule(),
    "cascade": DecisionRule("cascade", None, (0.38, 0.39), average=True),
    "router+cascade": DecisionRule("router+cascade", (0.0, 0.0), (0.38, 0.39)),
}


@pytest.mark.parametrize("name", RULES)
def test_a_graph_answers_as_the_engine(whole: tuple[SharcsForSequenceClassification, Path], name: str) -> None:
    model, path = whole
    own, given = Engine(TorchBackend(model), RULES[name]).answer(batch()), batch()
    order = own.index.argsort()
    found = graph_answers(path, model, RULES[name], None)(given)
    assert len(np.unique(own.rungs)) > 1
    assert (found.index.tolist(), found.lengths.tolist()) == (given.index.tolist(), given.lengths.tolist())
    assert (found.rungs.tolist(), found.first.tolist()) == (own.rungs[order].tolist(), own.first[order].tolist())
    np.testing.assert_allclose(found.logits, own.logits[order], atol=1e-5)
    if name != "cascade":
        np.testing.assert_allclose(found.router_logits, own.router_logits[order], atol=1e-5)


def test_one_rung_alone(two_widths: SharcsForSequenceClassification, tmp_path: Path) -> None:
    export_onnx(two_widths, tmp_path / "model.onnx", rung=0)
    own = Engine(TorchBackend(two_widths), DecisionRule()).answer(batch(), np.zeros(12, np.int64))
    found = graph_answers(tmp_path / "model.onnx", two_widths, DecisionRule(), 0)(batch())
    assert found.rungs.tolist() == found.first.tolist() == [0] * 12
    assert found.router_logits.shape == (12, 0)
    np.testing.assert_allclose(found.logits, own.logits[own.index.argsort()], atol=1e-5)
