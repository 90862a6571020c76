"""Inputs that callers of stock models give, for all three kinds of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.surgery import KINDS


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
    for name in ("inputs_embeds", "position_ids", "output_hidden_states", "output_attentions"):
        with pytest.raises(ValueError, match=f"{name} is no input of a model whose samples end at different places"):
            kind(**inputs, **{name: True})


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
