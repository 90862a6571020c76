"""Inputs that callers of stock models give, for all three kinds of models."""

from __future__ import annotations

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
