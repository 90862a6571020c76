from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoConfig, PreTrainedModel

from sharcs_pl.core.flops import EncoderShape
from sharcs_pl.evaluation import audit as module
from sharcs_pl.evaluation.audit import AuditRow, audit, audit_table
from sharcs_pl.models.families import FAMILIES, get_family
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.models.conftest import BERT_SIZES, PAD, SIZES
from tests.models.surgery import surgery


def stock(model_type: str = "bert", attention: str | None = None, **values: Any) -> PreTrainedModel:
    """A tiny random encoder: hidden 48, 4 heads, feed-forward 64, 3 layers, 3 labels."""
    sizes = {**({} if model_type == "distilbert" else BERT_SIZES), **SIZES.get(model_type, {}), **values}
    special = {"pad_token_id": PAD.get(model_type, 0), "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(model_type, vocab_size=60, max_position_embeddings=40, **special, **sizes)
    config.num_labels = 3
    config._attn_implementation = attention
    return get_family(model_type).stock_class(config).eval()


def change_shape(model: SharcsForSequenceClassification, **values: Any) -> None:
    model.cost = replace(model.cost, shape=replace(model.cost.shape, **values))


def differences(rows: list[AuditRow]) -> list[float]:
    return [row.difference for row in rows]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_the_closed_form_is_exact(model_type: str) -> None:
    """At every rung and length, of the stock model too; head size 12, so that no two sizes are the same."""
    model = surgery(stock(model_type))
    rows = audit(model, [1, 9, 38])
    assert [(row.rung, row.tokens) for row in rows] == [
        (name, length) for length in (1, 9, 38) for name in ("dense", "width 0.25", "width 0.5", "width 1")
    ]
    assert [row.analytic for row in rows[1:4]] == model.cost.rung_macs(np.array([1]))[0].tolist()
    assert differences(rows) == [0] * 12


@pytest.mark.parametrize(
    "values",
    [
        {"reduction": "learned"},
        {"top_rung_norm": True, "split_layer": 2},
        {"widths": ["1/4", "1/2", "3/4", 1], "router_hidden_size": 7},
        {"widths": [1]},
    ],
)
def test_every_kind_of_surgery(values: dict[str, Any]) -> None:
    model = surgery(stock(), **values)
    rows = audit(model, [9])
    assert len(rows) == 1 + len(model.ladder)
    assert differences(rows) == [0] * len(rows)


def test_a_learned_reduction_is_counted() -> None:
    """48 hidden dims are weighed for each of 9 tokens, on the narrow rungs only."""
    plain, learned = (audit(surgery(stock(), reduction=name), [9]) for name in ("slice", "learned"))
    extra = [b.counted - a.counted for a, b in zip(plain, learned, strict=True)]
    assert extra == [0, 9 * 48, 9 * 48, 0]


@pytest.mark.parametrize(
    "fault",
    [
        {"intermediate_size": 128},
        {"num_layers": 4},
        {"ffn_matrices": 3},
        {"num_heads": 8},
        {"embedding_size": 20},
        {"relative_positions": 8, "position_terms": 1},
        {"relative_positions": 8, "position_projections": 1},
    ],
)
def test_a_wrong_size_in_the_cost_model_is_found(fault: dict[str, Any]) -> None:
    model = surgery(stock())
    change_shape(model, **fault)
    assert min(differences(audit(model, [9]))) > 0.005


def test_a_wrong_split_or_router_is_found_on_the_rungs_that_have_it() -> None:
    model = surgery(stock())
    right = model.cost
    model.cost = replace(right, split_layer=2)
    assert [d > 0.005 for d in differences(audit(model, [9]))] == [False, True, True, False]
    model.cost = replace(right, has_router=False)
    rows = audit(model, [9])
    assert [row.counted - row.analytic for row in rows] == [0, *[right.router_macs()] * 3]


def test_fused_attention_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter sees none of its products, so that a layer which still ran it would look cheap."""
    monkeypatch.setattr(module, "_eager_twin", lambda model: model)
    with pytest.raises(AssertionError, match="scaled_dot_product_attention"):
        audit(surgery(stock(attention="sdpa")), [9])


def test_albert_projects_its_embeddings_even_to_the_same_size() -> None:
    """Its Linear is there at any size: a formula that leaves it out is one hidden x hidden product per token short."""
    model = surgery(stock("albert", embedding_size=48))
    change_shape(model, embedding_size=None)
    rows = audit(model, [9])
    assert [row.counted - row.analytic for row in rows] == [9 * 48 * 48] * 4
    assert max(differences(rows)) < -0.04


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_is(attention: str, training: bool) -> None:
    model = surgery(stock(attention=attention))
    ids = torch.randint(1, 60, (4, 11))
    before = model(ids, rungs=0).logits
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(training)
    random = torch.get_rng_state()
    audit(model, [5, 11])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(part.training == training for part in model.modules())
    assert model.encoder.config._attn_implementation == attention
    configs = [vars(part)["config"] for part in model.modules() if "config" in vars(part)]
    assert {config._attn_implementation for config in configs} == {attention}
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model.eval()(ids, rungs=0).logits, before)


def test_the_screen_stays_empty(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    model = surgery(stock("mpnet"))
    with caplog.at_level(logging.DEBUG):
        audit(model, [9])
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


def shown(rows: list[AuditRow], **options: Any) -> str:
    console = Console(width=80, **options)
    with console.capture() as captured:
        console.print(audit_table(rows))
    return captured.get()


def test_the_table_fits_a_terminal_and_says_each_figure() -> None:
    rows = [
        AuditRow("dense", 512, 123_456_789_012, 123_456_789_012),
        AuditRow("width 0.0625", 512, 110_000_000_000, 100_000_000_000),
    ]
    text = shown(rows)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("512", "dense", "width 0.0625", "123,456,789,012", "+0.00%", "+10.00%", "Left out by both: norms"):
        assert part in text


def test_only_a_large_difference_stands_out() -> None:
    rows = [AuditRow("dense", 9, 1004, 1000), AuditRow("width 1", 9, 994, 1000)]
    lines = shown(rows, force_terminal=True, color_system="standard").splitlines()
    red = [re.search("dense|width 1", line) for line in lines if "\x1b[1;31m" in line]
    assert [match and match[0] for match in red] == ["width 1"]


def test_the_cost_is_the_models_own() -> None:
    """Nothing of the closed form goes into the count."""
    model = surgery(stock())
    counted = [row.counted for row in audit(model, [9])]
    model.cost = replace(model.cost, shape=EncoderShape(8, 4, 2, 16, 3, 2), router_hidden_size=9)
    assert [row.counted for row in audit(model, [9])] == counted
