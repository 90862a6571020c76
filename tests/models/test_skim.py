from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharcs_pl.core.flops import full_layer_macs, head_macs
from sharcs_pl.models.families import FAMILIES
from sharcs_pl.models.skim import SkimForSequenceClassification

LENGTHS = (9, 4, 7, 1, 9, 3, 8)
POSITIONS = ("deberta-v2", "modernbert", "mpnet")  # read by every layer
FAMILIES_THAT_FIT = sorted({*FAMILIES} - {*POSITIONS})


def skim_of(source: Any) -> SkimForSequenceClassification:
    torch.manual_seed(5)
    model = SkimForSequenceClassification.from_encoder(source, predictor_size=8)
    with torch.no_grad():
        for predictor in model.predictors:
            for parameter in predictor.parameters():
                parameter.copy_(torch.randn_like(parameter))
    return model


def threshold_between(model: Any, inputs: dict[str, Tensor]) -> float:
    """A threshold that about half of the tokens reach in the first layer, and that no rounding does."""
    hidden, mask = model.embed(inputs["input_ids"], inputs["attention_mask"], None)
    sure = model.predictors[0](hidden)[mask > 0].sigmoid().sort().values
    return float(sure[len(sure) // 2] + sure[len(sure) // 2 - 1]) / 2


def one_by_one(model: Any, ids: Tensor, threshold: float) -> tuple[Tensor, Tensor, list[int]]:
    """The slow way: one text without padding, its tokens in a list, a token's state kept where it is skipped."""
    family, stock = model.family, model.encoder
    hidden = family.embed(family.base_of(stock), ids[None], None)[0]
    last, running, kept = hidden.clone(), list(range(len(ids))), []
    for layer, predictor in zip(family.depth_order(stock), model.predictors, strict=True):
        sure = predictor(last[None, running])[0].sigmoid().tolist()
        running = [t for t, p in zip(running, sure, strict=True) if t == 0 or p >= threshold]
        states = last[None, running]
        output = layer(states, family.mask(stock, states, torch.ones(1, len(running), dtype=torch.long)))
        last[running] = (output[0] if isinstance(output, tuple) else output).reshape(len(running), -1)
        kept.append(len(running))
    head = family.head(stock)
    return head.output(head.activation(head.dense(last[:1])))[0], last, kept


@pytest.mark.parametrize("model_type", FAMILIES_THAT_FIT)
@torch.no_grad()
def test_skimming_is_that_of_one_text_at_a_time(model_type: str, stock: Any, batch: Any) -> None:
    model, inputs = skim_of(stock(model_type)), batch(model_type, LENGTHS, extra=2)
    threshold = threshold_between(model, inputs)
    want = [one_by_one(model, inputs["input_ids"][i, :n], threshold) for i, n in enumerate(LENGTHS)]
    counts = torch.tensor([kept for _, _, kept in want])
    assert len(LENGTHS) < counts[:, 0].sum() < sum(LENGTHS)
    for size in (1, 3, 7):
        cuts = [{key: value[i : i + size] for key, value in inputs.items()} for i in range(0, 7, size)]
        parts = [model(**cut, threshold=threshold) for cut in cuts]
        assert torch.cat([part.kept for part in parts]).tolist() == counts.tolist()
        logits = torch.cat([part.logits for part in parts])
        torch.testing.assert_close(logits, torch.stack([x for x, _, _ in want]), rtol=1e-5, atol=1e-5)
        states = [row for part in parts for row in part.last_states]
        for row, length, (_, last, _) in zip(states, LENGTHS, want, strict=True):
            torch.testing.assert_close(row[:length], last, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_at_threshold_0_and_before_training_it_is_the_stock_model(stock: Any, batch: Any) -> None:
    whole, inputs = stock("bert"), batch("bert", LENGTHS)
    fresh = SkimForSequenceClassification.from_encoder(whole)
    for model, threshold in ((skim_of(whole), 0.0), (fresh, None)):
        out = model(**inputs, threshold=threshold)
        torch.testing.assert_close(out.logits, whole(**inputs).logits)
        assert out.kept.tolist() == [[n] * 3 for n in LENGTHS]


def test_training_draws_tokens_and_teaches_the_predictors(stock: Any, batch: Any) -> None:
    model, inputs = skim_of(stock("bert")).eval(), batch("bert", LENGTHS)
    torch.manual_seed(0)
    for predictor in model.predictors:
        predictor.get_parameter("output.bias").data += 3
    logits, shares = model.soft(**inputs)
    assert shares.min() > 0
    assert shares.max() <= 1
    assert shares[3] == 1  # a text of one token, which stays
    logits.square().sum().backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.any() for p in model.predictors[0].parameters())
    bias = model.predictors[0].get_parameter("output.bias")
    assert bias.grad is not None
    before = bias.grad.clone()
    shares.sum().backward()
    assert (bias.grad > before).all()  # fewer tokens: a lower chance to be kept
    assert not torch.equal(model.soft(**inputs)[1], shares)


@torch.no_grad()
def test_training_without_chance_is_inference(stock: Any, batch: Any) -> None:
    """Masked tokens in training change what the others see exactly as removed ones do at inference."""
    model, inputs = skim_of(stock("roberta")), batch("roberta", LENGTHS)
    for predictor in model.predictors:
        for name in ("output.weight", "output.bias"):
            predictor.get_parameter(name).mul_(1e6)  # no Gumbel noise comes near
    out, (logits, shares) = model(**inputs), model.soft(**inputs)
    torch.testing.assert_close(logits, out.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shares, out.kept.float().mean(1) / torch.tensor(LENGTHS))


@torch.no_grad()
def test_macs_follow_the_tokens_that_ran(stock: Any, batch: Any) -> None:
    model, inputs = skim_of(stock("bert")), batch("bert", LENGTHS)
    logits, signals, macs = model.all_rungs(**inputs)
    assert signals is None
    assert macs is not None
    out = model(**inputs)
    torch.testing.assert_close(logits[:, 2], out.logits)
    for row, length in enumerate(LENGTHS):
        kept = out.kept[row].tolist()
        layers = sum(int(full_layer_macs(model.shape, np.array([n]))[0]) for n in kept)
        entering = length + kept[0] + kept[1]
        want = layers + entering * 8 * 49 + head_macs(model.shape, 48)
        assert int(macs[row, 2]) == want
    assert (macs[:, 1:] >= macs[:, :-1]).all()
    assert macs[:, -1].tolist() == model.cost.rung_macs(np.array(LENGTHS))[:, -1].tolist()


def test_it_is_saved_and_read_again(stock: Any, batch: Any, tmp_path: Path) -> None:
    model, inputs = skim_of(stock("bert")), batch("bert")
    model.save_pretrained(tmp_path)
    twin = SkimForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(twin(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("model_type", POSITIONS)
def test_an_encoder_that_looks_at_positions_is_refused(model_type: str, stock: Any) -> None:
    with pytest.raises(ValueError, match=f"cannot remove tokens of a {model_type} encoder; what fits: albert, bert"):
        SkimForSequenceClassification.from_encoder(stock(model_type))
