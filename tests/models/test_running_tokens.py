"""Tokens skipped in the trunk of a routed model: every width runs on those that are left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharcs_pl.core.flops import embedding_macs, full_layer_macs, layer_macs
from sharcs_pl.models.encoder_sizes import ARCHITECTURES
from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification
from tests.models.surgery import surgery

LENGTHS = (9, 4, 7, 1, 9, 3, 8)
MIXED = torch.tensor([2, 0, 1, 0, 2, 1, 0])
FAMILIES_THAT_FIT = sorted(name for name, keys in ARCHITECTURES.items() if not keys.positions_in_layers)


def skimming(source: Any, **values: Any) -> SharcsForSequenceClassification:
    """A routed model whose predictors are all random, those of `surgery` otherwise."""
    model = surgery(source, skim=True, **values)
    assert model.predictors is not None
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in model.predictors.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


@torch.no_grad()
def rough(model: Any, inputs: dict[str, Tensor]) -> None:
    """Set a threshold that about two thirds of the tokens reach in the first layer, and that no rounding does."""
    mask = inputs["attention_mask"]
    hidden = model.family.embed(model._base, inputs["input_ids"], None, mask)
    sure = model.predictors[0](hidden)[mask > 0].sigmoid().sort().values
    model.config.skim_threshold = float(sure[len(sure) // 3] + sure[len(sure) // 3 - 1]) / 2


def alone(model: Any, ids: Tensor, rung: int) -> tuple[Tensor, Tensor, list[int]]:
    """The slow way, one text without padding, its tokens in a list: logits [C], router logits [W], the counts."""
    family, stock, threshold = model.family, model.encoder, model.config.skim_threshold
    states, running, counts = family.embed(family.base_of(stock), ids[None], None)[0], list(range(len(ids))), [len(ids)]

    def run(layer: Any, x: Tensor) -> Tensor:
        out = layer(x, family.mask(stock, x, torch.ones(1, x.shape[1], dtype=torch.long)))
        return (out[0] if isinstance(out, tuple) else out).reshape(x.shape)

    for depth, predictor in enumerate(model.predictors):
        sure = predictor(states[None, running])[0].sigmoid().tolist()
        running = [t for t, p in zip(running, sure, strict=True) if t == 0 or p >= threshold]
        counts.append(len(running))
        if depth < model.split_layer:
            states[running] = run(family.depth_order(stock)[depth], states[None, running])[0]
    router = model.router.output(model.router.dense(states[running].mean(0)).relu())
    tail, head = model.tails[rung], family.head(stock)
    narrow = tail.norm(tail.reduction(states[None, running]))
    for layer in tail.layers:
        narrow = run(layer, narrow)
    return head.output(head.activation(tail.head_dense(narrow[0, 0]))), router, counts


@pytest.mark.parametrize("model_type", FAMILIES_THAT_FIT)
@torch.no_grad()
def test_a_threshold_of_0_gives_the_model_that_skips_nothing(model_type: str, stock: Any, batch: Any) -> None:
    whole, inputs = surgery(stock(model_type), split_layer=2), batch(model_type, LENGTHS, extra=2)
    model = skimming(stock(model_type), split_layer=2)
    model.load_state_dict(whole.state_dict(), strict=False)
    model.config.skim_threshold = 0.0
    for rungs in (None, 0, 1, 2, MIXED):
        out, want = model(**inputs, rungs=rungs), whole(**inputs, rungs=rungs)
        torch.testing.assert_close(out.logits, want.logits)
        torch.testing.assert_close(out.router_logits, want.router_logits)
        assert out.rungs.tolist() == want.rungs.tolist()


@torch.no_grad()
def test_before_training_hardly_a_token_is_skipped(stock: Any, batch: Any) -> None:
    inputs = batch("bert", LENGTHS)
    torch.manual_seed(5)
    model = SharcsForSequenceClassification.from_encoder(stock("bert"), widths=[0.25, 1], split_layer=2, skim=True)
    assert model.config.skim == 48 // 4
    assert model.trunk(**inputs).counts.tolist() == [[n] * 4 for n in LENGTHS]  # pyright: ignore[reportOptionalMemberAccess]
    torch.testing.assert_close(model(**inputs, rungs=1).logits, stock("bert")(**inputs).logits)


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize("model_type", FAMILIES_THAT_FIT)
@torch.no_grad()
def test_every_width_runs_on_the_tokens_left_as_one_text_at_a_time_does(
    model_type: str, split: int, stock: Any, batch: Any
) -> None:
    model, inputs = skimming(stock(model_type), split_layer=split), batch(model_type, LENGTHS, extra=2)
    rough(model, inputs)
    texts = [inputs["input_ids"][i, :n] for i, n in enumerate(LENGTHS)]
    for rungs in (torch.zeros(7).long(), torch.full((7,), 2), MIXED):
        want = [alone(model, ids, rung) for ids, rung in zip(texts, rungs.tolist(), strict=True)]
        assert 14 < sum(counts[1] for *_, counts in want) < sum(LENGTHS)
        for size in (1, 3, 7):
            for i in range(0, 7, size):
                cut = {key: value[i : i + size] for key, value in inputs.items()}
                out, counts = model(**cut, rungs=rungs[i : i + size]), model.trunk(**cut).counts
                assert counts is not None
                assert counts.tolist() == [found for *_, found in want[i : i + size]]
                for got, one in ((out.logits, 0), (out.router_logits, 1)):
                    each = torch.stack([row[one] for row in want[i : i + size]])  # pyright: ignore
                    torch.testing.assert_close(got, each, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["slice", "learned"])
@torch.no_grad()
def test_macs_are_those_of_the_tokens_that_ran(reduction: str, stock: Any, batch: Any) -> None:
    model, inputs = skimming(stock("electra"), split_layer=2, reduction=reduction), batch("electra", LENGTHS)
    rough(model, inputs)
    logits, router_logits, macs = model.all_rungs(**inputs)
    assert router_logits is not None
    assert macs is not None
    for rung in range(3):
        torch.testing.assert_close(logits[:, rung], model(**inputs, rungs=rung).logits)
    for row, length in enumerate(LENGTHS):
        came, first, second, tail = alone(model, inputs["input_ids"][row, :length], 0)[2]
        trunk = int(sum(full_layer_macs(model.shape, np.array([n]))[0] for n in (first, second)))
        trunk += int(embedding_macs(model.shape, np.array([came]))[0]) + (came + first + second) * 12 * (48 + 1)
        trunk += 64 * (48 + 3)  # the router
        for rung, (hidden, heads, ffn) in enumerate([(12, 1, 16), (24, 2, 32), (48, 4, 64)]):
            layer = layer_macs(model.shape, np.array([tail]), hidden=hidden, heads=heads, intermediate=ffn)
            pooling = tail * 48 if reduction == "learned" and rung < 2 else 0
            assert int(macs[row, rung]) == trunk + pooling + int(layer[0]) + hidden * 48 + 48 * 3


@pytest.mark.parametrize("rung", [0, 1, 2])
def test_the_task_teaches_every_predictor_whatever_the_width(rung: int, stock: Any, batch: Any) -> None:
    model, inputs = skimming(stock("bert"), split_layer=1).eval(), batch("bert", LENGTHS)
    assert model.predictors is not None
    for predictor in model.predictors:
        predictor.get_parameter("output.bias").data += 3
    state = model.trunk(**inputs, draw=True)
    assert state.counts is not None
    assert state.counts[:, 0].tolist() == list(LENGTHS)
    assert (state.counts[:, 1:] <= state.counts[:, :-1]).all()
    assert (state.counts[:, -1] >= 1).all()
    model.tail(state, rung).square().sum().backward(retain_graph=True)
    for predictor in model.predictors:
        grads = {name: p.grad for name, p in predictor.named_parameters()}
        assert all(grad is not None and grad.abs().max() > 1e-6 for grad in grads.values()), grads
    biases = [predictor.get_parameter("output.bias") for predictor in model.predictors]
    before = [bias.grad.clone() for bias in biases if bias.grad is not None]
    state.counts.sum().backward()
    for bias, earlier in zip(biases, before, strict=True):
        assert bias.grad is not None
        assert (bias.grad > earlier).all()  # fewer tokens: a lower chance to be kept
    assert not torch.equal(model.trunk(**inputs, draw=True).counts, state.counts)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def test_training_without_chance_is_inference(stock: Any, batch: Any) -> None:
    """Tokens hidden in training change what the others see exactly as removed ones do at inference."""
    model, inputs = skimming(stock("roberta"), split_layer=2), batch("roberta", LENGTHS)
    assert model.predictors is not None
    for predictor in model.predictors:
        for name in ("output.weight", "output.bias"):
            predictor.get_parameter(name).mul_(1e6)  # no Gumbel noise comes near
    drawn, decided = model.trunk(**inputs, draw=True), model.trunk(**inputs)
    assert drawn.counts is not None
    assert decided.counts is not None
    assert decided.counts[:, -1].sum() < sum(LENGTHS)
    assert drawn.counts.tolist() == decided.counts.tolist()
    torch.testing.assert_close(drawn.router_logits, decided.router_logits)
    for rung in range(3):
        torch.testing.assert_close(model.tail(drawn, rung), model.tail(decided, rung), rtol=1e-5, atol=1e-5)
    some = torch.tensor([4, 1])
    assert drawn.gate is not None
    assert torch.equal(drawn.select(some).gate, drawn.gate[some])  # pyright: ignore[reportArgumentType]
    assert torch.equal(drawn.select(some).counts, drawn.counts[some])  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(model.tail(drawn.select(some), 0), model.tail(decided, 0)[some], rtol=1e-5, atol=1e-5)


def test_it_is_saved_and_read_again(stock: Any, batch: Any, tmp_path: Path) -> None:
    model, inputs = skimming(stock("bert")), batch("bert", LENGTHS)
    rough(model, inputs)
    model.save_pretrained(tmp_path)
    twin = SharcsForSequenceClassification.from_pretrained(tmp_path).eval()
    assert twin.config.skim_threshold == model.config.skim_threshold
    for one, other in zip(model.all_rungs(**inputs), twin.all_rungs(**inputs), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    names = {id(p) for p in model.new_parameters()}
    assert model.predictors is not None
    assert {id(p) for p in model.predictors.parameters()} <= names


def test_a_model_saved_before_there_was_skimming_is_read(stock: Any, batch: Any, tmp_path: Path) -> None:
    model, inputs = surgery(stock("bert")), batch("bert")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("skim", "skim_threshold"):
        del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    twin = SharcsForSequenceClassification.from_pretrained(tmp_path).eval()
    assert twin.predictors is None
    assert twin.all_rungs(**inputs).macs is None
    assert torch.equal(twin(**inputs).logits, model(**inputs).logits)
    assert not any(name.startswith("predictors") for name in model.state_dict())
    assert SharcsConfig().skim == 0


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert", "mpnet"])
def test_an_encoder_that_looks_at_positions_is_refused(model_type: str, stock: Any) -> None:
    with pytest.raises(ValueError, match=f"method.skim_weight: cannot remove tokens of a {model_type} encoder"):
        surgery(stock(model_type), skim=True)
