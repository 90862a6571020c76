"""Batches of ids through the engine against the model itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.core.cascade import certainties
from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.torch_backend import TorchBackend, rule_of, torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import spread_router
from tests.inference.made import LENGTHS, batch
from tests.models.surgery import surgery


@pytest.fixture
def model(folder: Path) -> SharcsForSequenceClassification:
    return SharcsForSequenceClassification.from_pretrained(folder)


@torch.no_grad()
def reference(model: SharcsForSequenceClassification, given: Batch, rungs: np.ndarray | None = None) -> Answers:
    """Each sample alone."""
    rows, ids = [], torch.from_numpy(given.input_ids)
    for row, length in enumerate(given.lengths.tolist()):
        rung = None if rungs is None else torch.from_numpy(rungs[row : row + 1])
        out = model(ids[row : row + 1, :length], rungs=rung)
        rows.append((out.logits, out.rungs, out.router_logits))
    logits, chosen, scores = (torch.cat(column).numpy() for column in zip(*rows, strict=True))
    return Answers(given.index, logits, chosen, scores, given.lengths, chosen, np.zeros((len(chosen), 0)))


def check(found: list[Answers], expected: list[Answers]) -> None:
    """Equal whatever their order."""
    one, other = (Answers.join(parts) for parts in (found, expected))
    places = one.index.argsort(), other.index.argsort()
    for name in ("index", "rungs", "lengths"):
        np.testing.assert_array_equal(getattr(one, name)[places[0]], getattr(other, name)[places[1]])
    for name in ("logits", "router_logits"):
        np.testing.assert_allclose(getattr(one, name)[places[0]], getattr(other, name)[places[1]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pack_above", [0.0, 1.0])
def test_a_batch_is_each_sample_alone(model: SharcsForSequenceClassification, pack_above: float) -> None:
    given = batch()
    expected = reference(model, given)
    assert len(set(expected.rungs.tolist())) == 3
    check([torch_engine(model, pack_above=pack_above).answer(given)], [expected])


@pytest.mark.parametrize("pack_above", [0.0, 1.0])
@pytest.mark.parametrize("size", [1, 5, 12, 64])
def test_pools_give_the_same_answers_and_nothing_is_lost(
    model: SharcsForSequenceClassification, size: int, pack_above: float
) -> None:
    run = torch_engine(model, pack_above=pack_above).pooled(size)
    given = [batch(start) for start in (0, 12, 24)]
    found = [answers for each in given for answers in run.add(each)]
    assert all(len(answers.index) == size for answers in found)
    found += run.flush()
    assert not run.flush()
    check(found, [reference(model, each) for each in given])


def test_late_pools_are_flushed_alone(model: SharcsForSequenceClassification) -> None:
    run = torch_engine(model).pooled(100)
    rungs = np.array([0] * 6 + [2] * 6)
    assert not run.add(batch(), rungs)
    assert not run.flush(before=0)
    (narrow,) = run.flush(before=6)
    assert narrow.index.tolist() == list(range(6))
    (top,) = run.flush()
    assert top.index.tolist() == list(range(6, 12))


def test_rungs_given_and_operating_points(model: SharcsForSequenceClassification) -> None:
    given, rungs = batch(), np.array([2, 0, 1] * 4)
    check([torch_engine(model).answer(given, rungs)], [reference(model, given, rungs)])
    model.config.operating_points = {"narrow": {"thresholds": [-NEVER, 0.0]}, "top": {"thresholds": [NEVER, NEVER]}}
    assert torch_engine(model, point="narrow").answer(given).rungs.tolist() == [0] * 12
    model.set_operating_point("top")
    assert torch_engine(model).answer(given).rungs.tolist() == [2] * 12
    assert set(torch_engine(model, point="trained").answer(given).rungs.tolist()) == {0, 1, 2}
    engine = torch_engine(model)
    assert engine.with_rule(rule_of(model, "narrow")).answer(given).rungs.tolist() == [0] * 12
    assert engine.answer(given).rungs.tolist() == [2] * 12
    with pytest.raises(ValueError, match="it has trained, narrow, top"):
        torch_engine(model, point="slow")


def test_bfloat16_is_a_copy_close_to_the_model(model: SharcsForSequenceClassification) -> None:
    given, rungs = batch(), np.array([2, 0, 1] * 4)
    found = torch_engine(model, precision="bfloat16").answer(given, rungs)
    assert found.logits.dtype == np.float32
    np.testing.assert_allclose(found.logits[found.index.argsort()], reference(model, given, rungs).logits, atol=0.1)
    assert (found.logits != torch_engine(model).answer(given, rungs).logits).any()
    assert model.dtype == torch.float32


@torch.inference_mode()
def router_in_float32(model: SharcsForSequenceClassification, engine: Engine, given: Batch) -> np.ndarray:
    """Router logits [B, W] of the engine's own trunk by the router that the model had before any rounding."""
    hidden, _ = engine.backend.trunk(given, False)
    assert model.router is not None
    means = [row.float().mean(0) for row in hidden.split(given.lengths.tolist())]
    return model.router.output(torch.relu(model.router.dense(torch.stack(means)))).numpy()


@pytest.mark.parametrize("pack_above", [0.0, 1.0])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_in_bfloat16_the_router_decides_in_float32(stock: Any, family: str, pack_above: float) -> None:
    """One that is written out, and one that runs through its own layers."""
    model = surgery(stock(family))
    spread_router(model)
    engine, given = torch_engine(model, precision="bfloat16", pack_above=pack_above), batch()
    found, want = engine.answer(given), router_in_float32(model, engine, given)
    order = found.index.argsort()
    np.testing.assert_allclose(found.router_logits[order], want, atol=1e-5, rtol=1e-5)
    assert found.rungs[order].tolist() == want.argmax(-1).tolist()
    assert not rounded(found.router_logits)
    assert next(model.parameters()).dtype == torch.float32


def rounded(scores: np.ndarray) -> bool:
    """True if every score is one that bfloat16 can hold."""
    held = torch.from_numpy(scores)
    return bool((held == held.bfloat16().float()).all())


def test_a_model_that_is_in_bfloat16_keeps_its_router_and_decides_in_float32(
    model: SharcsForSequenceClassification,
) -> None:
    given, half = batch(), model.bfloat16()
    found = torch_engine(half, precision="bfloat16").answer(given)
    assert not rounded(found.router_logits)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_a_model_without_a_router_is_one_rung(model: SharcsForSequenceClassification) -> None:
    dense = SharcsForSequenceClassification.from_encoder(model.encoder, widths=[1], split_layer=1)
    ids = torch.from_numpy(batch().input_ids)
    logits, zeros = dense(ids, (ids > 0).long()).logits.detach().numpy(), np.zeros(12, np.int64)
    expected = Answers(batch().index, logits, zeros, np.zeros((12, 0)), LENGTHS, zeros, np.zeros((12, 0)))
    check([torch_engine(dense).answer(batch())], [expected])


def test_compiled_parts_do_not_compile_again_for_another_batch_shape(model: SharcsForSequenceClassification) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    engine = torch_engine(model, compile=True, compile_backend=counter)
    given = batch()
    groups = [5, 5, 2]  # no size is one of the model's: equal sizes are taken for the same
    rungs = np.repeat(np.arange(3), groups)
    check([engine.answer(given, rungs)], [reference(model, given, rungs)])
    compiled = counter.frame_count
    assert compiled == 4  # the trunk and three rungs
    for rows, length in ((slice(0, 12), 7), (slice(2, 12), 9), (slice(3, 12), 6)):
        ids = np.ascontiguousarray(given.input_ids[rows, :length])
        part = Batch(given.index[rows], ids, given.lengths[rows].clip(max=length))
        check([engine.answer(part, rungs[rows])], [reference(model, part, rungs[rows])])
    assert counter.frame_count == compiled


def cascading(model: SharcsForSequenceClassification, name: str, average: bool = False) -> None:
    """Give the model a cascade whose thresholds send some of the samples of `batch` on at each width."""
    ids = torch.from_numpy(batch().input_ids)
    with torch.no_grad():
        every = model.all_rungs(ids, (ids > 0).long())
    assert every.signals is not None
    plain = DecisionRule("cascade", stops=(1.0, 1.0), average=average)
    sure = certainties(plain, every.logits, torch.zeros(12, dtype=torch.long))
    # Half-way between the middle ones: at a sample's own score, rounding on another processor would decide.
    stops = sure[:, :2].sort(0).values[5:7].mean(0).tolist()
    starts = None if name == "cascade" else [every.signals[:, 0].sort().values[5:7].mean().item(), -NEVER]
    point = {"rule": name, "stops": stops, "thresholds": starts, "certainty": "probability", "average": average}
    model.config.operating_points = {"cascade": point}
    model.set_operating_point("cascade")


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("name", ["cascade", "router+cascade"])
def test_a_cascade_runs_each_sample_as_alone_however_it_is_batched(
    model: SharcsForSequenceClassification, name: str, average: bool
) -> None:
    cascading(model, name, average)
    given = batch()
    expected = reference(model, given)
    assert len(set(expected.rungs.tolist())) == 3
    expected = replace(expected, router_logits=expected.router_logits[:, : 0 if name == "cascade" else None])
    for pack_above in (0.0, 1.0):
        engine = torch_engine(model, pack_above=pack_above)
        found = engine.answer(given)
        check([found], [expected])
        ids = torch.from_numpy(given.input_ids)
        every = model.all_rungs(ids, (ids > 0).long())
        decision = model.decide(every.logits, every.signals)
        assert decision.rungs.tolist() == expected.rungs.tolist()
        order = found.index.argsort()
        assert found.first[order].tolist() == decision.first.tolist()
        np.testing.assert_allclose(found.logits[order], decision.logits.detach().numpy(), atol=1e-5, rtol=1e-5)
        assert engine.rule.stops is not None
        needed = np.array([*engine.rule.stops, -NEVER], np.float32)[found.rungs]
        assert (found.certainties[np.arange(12), found.rungs] >= needed).all()
        for size in (2, 5, 64):
            run = engine.pooled(size)
            parts = [*run.add(given), *run.flush()]
            check(parts, [expected])


def test_a_cascade_runs_no_tail_that_no_sample_needs_and_no_router(
    model: SharcsForSequenceClassification, monkeypatch: pytest.MonkeyPatch
) -> None:
    cascading(model, "cascade")
    model.config.operating_points["cascade"]["stops"] = [0.0, 0.0]
    engine, ran = torch_engine(model), []
    assert isinstance(engine.backend, TorchBackend)
    for rung, tail in enumerate(engine.backend.fused.tails):
        tail.register_forward_hook(lambda *_, rung=rung: ran.append(rung))
    monkeypatch.setattr(type(model.router), "forward", None)
    monkeypatch.setattr(type(engine.backend.fused.trunk), "_route", None)
    assert engine.answer(batch()).rungs.tolist() == [0] * 12
    assert ran == [0]


def test_samples_that_go_on_wait_in_the_next_pool_and_late_ones_are_flushed(
    model: SharcsForSequenceClassification,
) -> None:
    cascading(model, "cascade")
    model.config.operating_points["cascade"]["stops"] = [1.0, 1.0]  # none is that sure: all go on to the top
    run = torch_engine(model).pooled(12)
    assert [len(part.index) for part in run.add(batch())] == [12]
    few = batch(12)
    assert run.add(Batch(few.index[:5], few.input_ids[:5], few.lengths[:5])) == []
    assert run.flush(before=12) == []
    (late,) = run.flush(before=13)
    assert late.index.tolist() == list(range(12, 17))
    assert late.rungs.tolist() == [2] * 5


def test_a_point_that_the_model_cannot_have_is_refused(model: SharcsForSequenceClassification) -> None:
    model.config.operating_points = {"few": {"rule": "cascade", "stops": [0.5]}}
    with pytest.raises(ValueError, match="stops has 1 values"):
        torch_engine(model, point="few")


def test_a_pool_of_long_samples_runs_in_parts_of_so_many_tokens(
    model: SharcsForSequenceClassification, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, given, sizes = torch_engine(model), batch(), list[int]()
    expected = engine.answer(given)
    tail = engine.backend.tail

    def noting(rung: int, hidden: Any, lengths: np.ndarray) -> Any:
        sizes.append(len(lengths) * int(lengths.max()))
        return tail(rung, hidden, lengths)

    monkeypatch.setattr(engine.backend, "tail", noting)
    run = engine.pooled(12, tokens=20)
    check([*run.add(given), *run.flush()], [expected])
    assert max(sizes) <= 20
    assert sum(sizes) >= LENGTHS.sum()
