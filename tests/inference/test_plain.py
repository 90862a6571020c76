"""Families that inference runs through their own layers: the engine and the predictor answer as the model does."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.engine import Answers, Batch, Engine
from sharcs_pl.inference.fused import FusedModel
from sharcs_pl.inference.plain import PlainTail, PlainTrunk
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.models.encoder_sizes import ARCHITECTURES
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import WORDS, spread_router
from tests.models.surgery import surgery

PLAIN = [name for name, keys in ARCHITECTURES.items() if not keys.written_out]
LENGTHS = torch.tensor([9, 4, 7, 2, 9, 5, 6, 3, 8, 9, 2, 4])
RUNGS = torch.tensor([2, 0, 1] * 4)


@pytest.fixture(params=PLAIN)
def model(request: pytest.FixtureRequest, stock: Any) -> SharcsForSequenceClassification:
    """Of the widths 1/4, 1/2 and 1; its router uses all three."""
    found = surgery(stock(request.param))
    spread_router(found)
    return found


def batch() -> Batch:
    ids = torch.randint(4, 60, (12, 9), generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(12), ids.masked_fill(torch.arange(9) >= LENGTHS[:, None], 0), LENGTHS)


@torch.no_grad()
def check(model: SharcsForSequenceClassification, found: list[Answers], rungs: Tensor | None = None) -> None:
    """Each sample as it is alone, without padding."""
    given = batch()
    order = torch.cat([part.index for part in found]).argsort()
    logits, chosen, scores = (
        torch.cat([getattr(part, name) for part in found])[order] for name in ("logits", "rungs", "router_logits")
    )
    for row, length in enumerate(LENGTHS.tolist()):
        want = model(given.input_ids[row : row + 1, :length], rungs=None if rungs is None else rungs[row : row + 1])
        torch.testing.assert_close(logits[row], want.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores[row], want.router_logits[0], atol=1e-5, rtol=1e-5)
        assert chosen[row] == want.rungs


@pytest.mark.parametrize("pack_above", [0.0, 1.0])
def test_batches_and_pools_answer_as_the_model_does(model: SharcsForSequenceClassification, pack_above: float) -> None:
    engine = Engine(model, pack_above=pack_above)
    assert isinstance(engine.fused.trunk, PlainTrunk)
    assert all(isinstance(tail, PlainTail) for tail in engine.fused.tails)
    check(model, [engine.answer(batch())])
    check(model, [engine.answer(batch(), RUNGS)], RUNGS)
    run = engine.pooled(5)
    check(model, [*run.add(batch(), RUNGS), *run.flush()], RUNGS)


def test_nothing_is_copied(model: SharcsForSequenceClassification) -> None:
    fused = FusedModel(model)
    assert fused.packed_bytes == 0
    assert {id(parameter) for parameter in fused.parameters()} <= {id(parameter) for parameter in model.parameters()}


def test_bfloat16_leaves_buffers_as_they_are(model: SharcsForSequenceClassification) -> None:
    engine = Engine(model, precision="bfloat16")
    buffers = dict(engine.model.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in model.named_buffers())
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.bfloat16}
    found = engine.answer(batch(), RUNGS)
    want = Engine(model).answer(batch(), RUNGS)
    torch.testing.assert_close(found.logits, want.logits, atol=0.15, rtol=0.15)


def test_compiled_parts_agree(model: SharcsForSequenceClassification) -> None:
    check(model, [Engine(model, compile=True, compile_backend="eager").answer(batch(), RUNGS)], RUNGS)


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
