"""Families that inference runs through their own layers: the engine and the predictor answer as the model does."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.fused import FusedModel
from sharcs_pl.inference.plain import PlainTail, PlainTrunk
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.inference.torch_backend import TorchBackend, torch_engine
from sharcs_pl.models.encoder_sizes import ARCHITECTURES
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import WORDS, spread_router
from tests.models.surgery import surgery

PLAIN = [name for name, keys in ARCHITECTURES.items() if not keys.written_out]
LENGTHS = np.array([9, 4, 7, 2, 9, 5, 6, 3, 8, 9, 2, 4])
RUNGS = np.array([2, 0, 1] * 4)


@pytest.fixture(params=PLAIN)
def model(request: pytest.FixtureRequest, stock: Any) -> SharcsForSequenceClassification:
    """Of the widths 1/4, 1/2 and 1; its router uses all three."""
    found = surgery(stock(request.param))
    spread_router(found)
    return found


def batch() -> Batch:
    ids = np.random.default_rng(0).integers(4, 60, (12, 9))
    return Batch(np.arange(12), np.where(np.arange(9) < LENGTHS[:, None], ids, 0), LENGTHS)


@torch.no_grad()
def check(model: SharcsForSequenceClassification, found: list[Answers], rungs: np.ndarray | None = None) -> None:
    """Each sample as it is alone, without padding."""
    ids, whole = torch.from_numpy(batch().input_ids), Answers.join(found)
    order = whole.index.argsort()
    for row, length in enumerate(LENGTHS.tolist()):
        rung = None if rungs is None else torch.from_numpy(rungs[row : row + 1])
        want = model(ids[row : row + 1, :length], rungs=rung)
        np.testing.assert_allclose(whole.logits[order][row], want.logits[0], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(whole.router_logits[order][row], want.router_logits[0], atol=1e-5, rtol=1e-5)
        assert whole.rungs[order][row] == want.rungs


@pytest.mark.parametrize("pack_above", [0.0, 1.0])
def test_batches_and_pools_answer_as_the_model_does(model: SharcsForSequenceClassification, pack_above: float) -> None:
    engine = torch_engine(model, pack_above=pack_above)
    assert isinstance(engine.backend, TorchBackend)
    assert isinstance(engine.backend.fused.trunk, PlainTrunk)
    assert all(isinstance(tail, PlainTail) for tail in engine.backend.fused.tails)
    check(model, [engine.answer(batch())])
    check(model, [engine.answer(batch(), RUNGS)], RUNGS)
    run = engine.pooled(5)
    check(model, [*run.add(batch(), RUNGS), *run.flush()], RUNGS)


def test_nothing_is_copied(model: SharcsForSequenceClassification) -> None:
    fused = FusedModel(model)
    assert fused.packed_bytes == 0
    assert {id(parameter) for parameter in fused.parameters()} <= {id(parameter) for parameter in model.parameters()}


def test_bfloat16_leaves_buffers_as_they_are(model: SharcsForSequenceClassification) -> None:
    engine = torch_engine(model, precision="bfloat16")
    assert isinstance(engine.backend, TorchBackend)
    buffers = dict(engine.backend.model.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in model.named_buffers())
    assert {parameter.dtype for parameter in engine.backend.model.parameters()} == {torch.bfloat16}
    found = engine.answer(batch(), RUNGS)
    want = torch_engine(model).answer(batch(), RUNGS)
    np.testing.assert_allclose(found.logits, want.logits, atol=0.15, rtol=0.15)


def test_compiled_parts_agree(model: SharcsForSequenceClassification) -> None:
    check(model, [torch_engine(model, compile=True, compile_backend="eager").answer(batch(), RUNGS)], RUNGS)


@pytest.mark.parametrize("model_type", PLAIN)
@torch.no_grad()
def test_the_predictor_answers_as_the_model_does(stock: Any, model_type: str) -> None:
    tokenizer = word_tokenizer()
    model = surgery(stock(model_type, vocab_size=len(tokenizer)))
    spread_router(model)
    source = random.Random(0)
    texts = [" ".join(source.choices(WORDS, k=source.randint(0, 30))) for _ in range(40)]
    predictor = RoutedPredictor(model, tokenizer, batch_size=8, max_length=24, window=2)
    found = predictor.predict(texts)
    assert len({each.rung for each in found}) > 1
    for text, each, streamed in zip(texts, found, predictor.stream(texts), strict=True):
        encoded = predictor.tokenizer(text, truncation=True, max_length=24, return_tensors="pt")
        out = model(encoded["input_ids"], encoded["attention_mask"])
        assert each.rung == streamed.rung == out.rungs.item()
        for answer in (each, streamed):
            probabilities = torch.tensor(answer.probabilities)
            torch.testing.assert_close(probabilities, out.logits[0].softmax(-1), atol=1e-5, rtol=1e-5)
        assert each.macs == model.cost.rung_macs(encoded["attention_mask"].sum(1).numpy())[0, each.rung]
