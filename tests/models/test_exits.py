from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.families import FAMILIES
from sharcs_pl.models.head import ExitHead
from sharcs_pl.models.layers import run_layers
from sharcs_pl.models.stopping import RULES

LENGTHS = (9, 4, 7, 1, 9, 3, 8)


def exits_of(source: Any, rule: str = "confidence", **values: Any) -> ExitsForSequenceClassification:
    torch.manual_seed(5)
    model = ExitsForSequenceClassification.from_encoder(source, rule=rule, **values)
    with torch.no_grad():
        for parameter in model.new_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def threshold_between(model: Any, inputs: dict[str, Tensor]) -> float:
    """A threshold that tells the samples apart, and that no rounding reaches."""
    if model.config.rule == "patience":
        return 1.0
    logits, certainty, _ = model.all_rungs(**inputs)
    sure = model.rule.sureness(logits, certainty, 0.0)[:, 0].sort().values
    return float(sure[2] + sure[3]) / 2


def one_by_one(model: Any, inputs: dict[str, Tensor], threshold: float) -> tuple[Tensor, Tensor]:
    """The slow way: each sample alone and without padding, one layer after the other, its rule written out here."""
    logits, exits = [], []
    family, stock = model.family, model.encoder
    for row in range(len(inputs["input_ids"])):
        length = int(inputs["attention_mask"][row].sum())
        ids = inputs["input_ids"][row : row + 1, :length]
        real, base = torch.ones_like(ids), family.base_of(stock)
        hidden = family.embed(base, ids, None, real)
        extras = family.layer_extras(base, hidden, model.shape.num_heads)
        mask, answers, sure = family.mask(stock, hidden, real), [], 0
        for depth, layer in enumerate(family.depth_order(stock), 1):
            hidden = run_layers([layer], hidden, mask, extras)
            if depth not in model.ladder.layers:
                continue
            index = model.ladder.layers.index(depth)
            head, last = family.head(stock), index == model.ladder.top
            final = family.outer_norms(base).get("final")
            states = hidden if final is None else (final if last else model.heads[index].norm)(hidden)
            first = states.mean(1) if getattr(stock.config, "classifier_pooling", "cls") == "mean" else states[:, 0]
            answers.append(head.output(head.activation(head.dense(first))) if last else model.heads[index](first, head))
            p = answers[-1].softmax(-1)[0]
            entropy = float(-(p * p.log()).sum())
            agree = len(answers) > 1 and answers[-1].argmax() == answers[-2].argmax()
            sure = sure + 1 if agree else 0
            stop = {
                "confidence": float(p.max()) >= threshold,
                "entropy": entropy <= threshold,
                "uncertainty": entropy / np.log(len(p)) <= threshold,
                "patience": sure >= threshold,
                "learned": model.certainty is not None and float(model.certainty(first).sigmoid()) >= threshold,
            }[model.config.rule]
            if stop or last:
                logits.append(answers[-1][0])
                exits.append(index)
                break
    return torch.stack(logits), torch.tensor(exits)


def agrees_with_the_slow_way(model: Any, inputs: dict[str, Tensor], threshold: float) -> set[int]:
    want, places = one_by_one(model, inputs, threshold)
    for size in (1, 2, 7):
        parts = [
            model(**{k: v[i : i + size] for k, v in inputs.items()}, threshold=threshold) for i in range(0, 7, size)
        ]
        assert torch.cat([part.exits for part in parts]).tolist() == places.tolist()
        torch.testing.assert_close(torch.cat([part.logits for part in parts]), want, rtol=1e-5, atol=1e-5)
    every, certainty, _ = model.all_rungs(**inputs)
    assert model.choose(every, certainty, threshold).tolist() == places.tolist()
    torch.testing.assert_close(every[torch.arange(7), places], want, rtol=1e-5, atol=1e-5)
    return set(places.tolist())


@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_samples_stop_as_one_by_one(rule: str, stock: Any, batch: Any) -> None:
    model = exits_of(stock("bert", num_hidden_layers=4), rule)
    inputs = batch("bert", LENGTHS, extra=2)
    assert len(agrees_with_the_slow_way(model, inputs, threshold_between(model, inputs))) > 1


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.no_grad()
def test_every_family_stops_as_one_by_one(model_type: str, stock: Any, batch: Any) -> None:
    model = exits_of(stock(model_type), exits=[1, 3], exit_head="linear")
    inputs = batch(model_type, LENGTHS)
    assert agrees_with_the_slow_way(model, inputs, threshold_between(model, inputs)) == {0, 1}


@torch.no_grad()
def test_exits_pool_real_tokens_only_where_the_stock_head_takes_the_mean(stock: Any, batch: Any) -> None:
    whole, inputs = stock("modernbert", classifier_pooling="mean"), batch("modernbert", LENGTHS, extra=2)
    model = exits_of(whole, exits=[1, 3])
    assert agrees_with_the_slow_way(model, inputs, threshold_between(model, inputs)) == {0, 1}
    torch.testing.assert_close(model.all_rungs(**inputs)[0][:, -1], whole(**inputs).logits)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.no_grad()
def test_an_exit_starts_as_the_stock_model_cut_after_its_layer(model_type: str, stock: Any, batch: Any) -> None:
    """All but the head's output, which is drawn: with the stock one's in its place nothing differs."""
    whole, inputs = stock(model_type), batch(model_type, LENGTHS)
    model = ExitsForSequenceClassification.from_encoder(whole, rule="confidence", exits=[2, 3])
    exit = model.heads[0]
    assert isinstance(exit, ExitHead)
    exit.output.load_state_dict(model.family.head(model.encoder).output.state_dict())
    shorter, base = copy.deepcopy(whole), model.family.base
    logits = model.all_rungs(**inputs)[0]
    torch.testing.assert_close(logits[:, 1], whole(**inputs).logits, rtol=1e-5, atol=1e-5)
    for name, layers in getattr(shorter, base).named_modules():
        if isinstance(layers, nn.ModuleList) and len(layers) == 3:
            getattr(shorter, base).set_submodule(name, layers[:2])
    for name in ("num_hidden_layers", "n_layers"):
        if hasattr(shorter.config, name):
            setattr(shorter.config, name, 2)
    torch.testing.assert_close(logits[:, 0], shorter(**inputs).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_last_exit_is_the_stock_model_and_layers_after_the_last_leaver_do_not_run(stock: Any, batch: Any) -> None:
    whole, inputs = stock("bert"), batch("bert", LENGTHS)
    model = exits_of(whole)
    torch.testing.assert_close(model(**inputs, threshold=1.1).logits, whole(**inputs).logits)
    seen: list[int] = []
    for layer in model.family.depth_order(model.encoder):
        layer.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    taken = model(**inputs, threshold=0.0).exits
    assert (seen, taken.tolist()) == ([7], [0] * 7)
    seen.clear()
    threshold = threshold_between(model, inputs)
    seen.clear()
    taken = model(**inputs, threshold=threshold).exits
    assert seen[:2] == [7, int((taken > 0).sum())]
    assert 0 < seen[1] < 7


def test_a_regression_stops_when_answers_stay_close(stock: Any, batch: Any) -> None:
    model = exits_of(stock("bert", num_labels=1), "patience", tolerance=0.2)
    answers = torch.tensor([[0.0, 0.1, 0.9], [0.0, 0.5, 0.6], [0.0, 0.5, 1.0]])[:, :, None]
    assert model.choose(answers, None, 1.0).tolist() == [1, 2, 2]
    assert model.choose(answers, None, 2.0).tolist() == [2, 2, 2]


def test_it_is_saved_and_read_again(stock: Any, batch: Any, tmp_path: Path) -> None:
    model = exits_of(stock("roberta"), "learned", exits=[2, 3], threshold=0.6)
    model.save_pretrained(tmp_path)
    twin, inputs = ExitsForSequenceClassification.from_pretrained(tmp_path).eval(), batch("roberta")
    for one, other in zip(model.all_rungs(**inputs)[:2], twin.all_rungs(**inputs)[:2], strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert (twin.ladder.layers, twin.config.threshold, twin.config.rule) == ((2, 3), 0.6, "learned")


def test_detached_exits_leave_the_encoder_alone(stock: Any, batch: Any) -> None:
    model = exits_of(stock("bert"))
    logits, _ = model.exits(**batch("bert"), detach=True)
    logits[:, :-1].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.stock_parameters())
    assert all(p.grad is not None for p in model.new_parameters())


@pytest.mark.parametrize("exits", [[1, 2], [3, 3], [0, 3], []])
def test_exits_that_do_not_fit_name_the_key(stock: Any, exits: list[int]) -> None:
    with pytest.raises(ValueError, match=r"method\.exits"):
        exits_of(stock("bert"), exits=exits)
