"""Inputs that callers of stock models give, for all three kinds of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.models.families import FAMILIES
from tests.models.surgery import KINDS, surgery


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, stock: Any) -> Any:
    return KINDS[request.param](stock("bert"))


@torch.no_grad()
def test_the_manners_of_stock_models(kind: Any, batch: Any) -> None:
    inputs = batch()
    expected = kind(**inputs)
    found = kind(**inputs, return_dict=False, inputs_embeds=None, output_attentions=False, num_items_in_batch=5)
    assert isinstance(found, tuple)
    assert torch.equal(found[0], expected.logits)
    for name in ("output_hidden_states", "output_attentions"):
        with pytest.raises(ValueError, match=f"{name} is no input of a model whose samples end at different places"):
            kind(**inputs, **{name: True})


@torch.no_grad()
def test_embedded_tokens_take_the_place_of_ids(kind: Any, batch: Any) -> None:
    inputs = batch()
    words = kind.get_input_embeddings()(inputs["input_ids"])
    expected = kind(**inputs).logits
    assert torch.equal(kind(attention_mask=inputs["attention_mask"], inputs_embeds=words).logits, expected)
    assert torch.equal(kind(inputs_embeds=words).logits, kind(inputs["input_ids"]).logits)
    for given in ({}, {"input_ids": inputs["input_ids"], "inputs_embeds": words}):
        with pytest.raises(ValueError, match="give either input_ids or inputs_embeds"):
            kind(**given)


@torch.no_grad()
@pytest.mark.parametrize("model_type", FAMILIES)
def test_embeddings_read_what_the_stock_model_reads(model_type: str, stock: Any, batch: Any) -> None:
    whole, inputs = stock(model_type), batch(model_type)
    model, mask = surgery(whole), inputs["attention_mask"]
    words = whole.get_input_embeddings()(inputs["input_ids"])
    given: Any = [{"inputs_embeds": words}]
    places = torch.arange(9).flip(0).expand(5, -1) + 3
    if model_type == "modernbert":
        with pytest.raises(ValueError, match="position_ids: every layer of modernbert reads positions; leave it out"):
            model(**inputs, position_ids=places)
    else:
        given += [{"input_ids": inputs["input_ids"], "position_ids": places}]
        given += [{"inputs_embeds": words, "position_ids": places}]
    for tokens in given:
        found = model(**tokens, attention_mask=mask, rungs=2).logits
        assert torch.equal(found, whole(**tokens, attention_mask=mask).logits)
        assert model(**tokens, attention_mask=mask).logits.shape == (5, 3)


@torch.no_grad()
def test_more_tokens_are_saved_and_loaded(kind: Any, batch: Any, tmp_path: Path) -> None:
    inputs = batch()
    before = kind(**inputs).logits
    kind.resize_token_embeddings(70)
    assert torch.equal(kind(**inputs).logits, before)
    kind.save_pretrained(tmp_path)
    again = type(kind).from_pretrained(tmp_path)
    assert again.get_input_embeddings().num_embeddings == 70
    inputs["input_ids"][0, 1] = 69
    assert torch.equal(again(**inputs).logits, kind(**inputs).logits)


def test_another_checkpoint_is_refused_in_one_line(kind: Any, stock: Any, tmp_path: Path) -> None:
    others = {name: make(stock("bert")) for name, make in KINDS.items()} | {"body": stock("bert").bert}
    for name, other in others.items():
        other.save_pretrained(tmp_path / name)
        if type(other) is not type(kind):
            with pytest.raises(ValueError, match=r"\A.* is not a routed model.*; use from_encoder.*\Z"):
                type(kind).from_pretrained(tmp_path / name)
