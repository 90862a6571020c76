"""Reordering heads and neurons: the function stays, for every row of the table; what is shared stays shared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sharcs_pl.models.families import FAMILIES, get_family
from sharcs_pl.models.order import Order, leading_order, reorder, watching
from tests.models.surgery import random_importance

EVERY = sorted(FAMILIES)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_logits_stay(stock: Any, batch: Any, model_type: str, attention: str) -> None:
    """To 1e-6 in single precision with the weights that a fresh model has, and exactly, in double, with any."""
    has_sdpa = get_family(model_type).stock_class._supports_sdpa
    if attention == "sdpa" and not has_sdpa:
        pytest.skip("the stock model has eager attention only")
    wild, inputs = stock(model_type, attention=attention), batch(model_type)
    cases = [(type(wild)(wild.config).eval(), 1e-6)]
    if attention == "sdpa" or not has_sdpa:  # some stock eager kernels give nan in double
        cases.append((wild.double(), 1e-13))
    for model, bound in cases:
        before, weights = model(**inputs).logits, {k: v.clone() for k, v in model.state_dict().items()}
        reorder(model, leading_order(model, *random_importance(model)))
        torch.testing.assert_close(model(**inputs).logits, before, rtol=bound, atol=bound)
        assert any(not torch.equal(v, weights[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_the_important_ones_lead(stock: Any, batch: Any, model_type: str) -> None:
    """What enters the output projections afterwards is what entered them before, in the order asked for."""
    model, inputs = stock(model_type), batch(model_type)
    family = get_family(model_type)
    heads = family.size(model.config).heads
    order = leading_order(model, *random_importance(model))

    def seen(part: str) -> dict[int, torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        with watching(model, part, lambda depth, value: found.setdefault(depth, value)):
            model(**inputs)
        return found

    before = {part: seen(part) for part in ("attention_out", "ffn_out")}
    reorder(model, order)
    for depth, value in seen("attention_out").items():
        want = before["attention_out"][depth].unflatten(-1, (heads, -1))[..., order.heads[depth], :].flatten(-2)
        torch.testing.assert_close(value, want, rtol=1e-4, atol=1e-5)
    for depth, value in seen("ffn_out").items():
        want = before["ffn_out"][depth][..., order.neurons[depth]]
        torch.testing.assert_close(value, want, rtol=1e-4, atol=1e-5)


def test_each_layer_has_an_order_of_its_own(stock: Any) -> None:
    heads, neurons = random_importance(model := stock("bert"))
    order = leading_order(model, heads, neurons)
    for layer in range(len(heads)):
        assert heads[layer][order.heads[layer]].diff().le(0).all()
        assert neurons[layer][order.neurons[layer]].diff().le(0).all()
    assert not torch.equal(order.heads[0], order.heads[1])


def test_depths_that_share_weights_share_the_order_of_their_sum(stock: Any) -> None:
    model = stock("albert", num_hidden_layers=4, num_hidden_groups=2)
    heads, neurons = random_importance(model)
    order = leading_order(model, heads, neurons)
    for given, ranked in ((heads, order.heads), (neurons, order.neurons)):
        for pair in ([0, 1], [2, 3]):
            want = given[pair].sum(0).argsort(descending=True)
            assert torch.equal(ranked[pair[0]], want)
            assert torch.equal(ranked[pair[1]], want)
        assert not torch.equal(ranked[0], ranked[2])


def test_a_table_per_head_for_all_layers_asks_for_one_order_of_heads(stock: Any) -> None:
    heads, neurons = random_importance(model := stock("mpnet"))
    order = leading_order(model, heads, neurons)
    assert all(torch.equal(row, heads.sum(0).argsort(descending=True)) for row in order.heads)
    assert not torch.equal(order.neurons[0], order.neurons[1])


def test_ties_keep_their_places(stock: Any) -> None:
    model = stock("bert")
    order = leading_order(model, torch.zeros(3, 4), torch.zeros(3, 64))
    assert order.heads.tolist() == [[0, 1, 2, 3]] * 3
    assert torch.equal(order.neurons, torch.arange(64).expand(3, 64))


def test_a_weight_whose_place_is_not_known_is_refused_and_nothing_changes(stock: Any) -> None:
    model = stock("bert")
    layer = model.bert.encoder.layer[2]
    layer.attention.self.head_scale = nn.Parameter(torch.ones(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"bert cannot be reordered: its layers have attention\.self\.head_scale"):
        reorder(model, leading_order(model, *random_importance(model)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_layer_that_runs_at_several_depths_is_told_apart(stock: Any, batch: Any) -> None:
    model, depths = stock("albert"), []
    with watching(model, "ffn_out", lambda depth, value: (depths.append(depth), value)[1]):
        for _ in range(2):
            model(**batch("albert"))
    assert depths == [0, 1, 2] * 2


def test_an_order_is_a_permutation_of_every_layer(stock: Any) -> None:
    model = stock("distilbert")
    order = leading_order(model, *random_importance(model))
    assert isinstance(order, Order)
    assert torch.equal(order.heads.sort(-1).values, torch.arange(4).expand(3, 4))
