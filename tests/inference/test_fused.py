"""The written-out layers against the stock ones they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sharcs_pl.inference.fused import FusedModel
from sharcs_pl.inference.layout import layout_of
from sharcs_pl.inference.plain import RungTail
from sharcs_pl.models.families import FAMILIES
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.models.surgery import surgery


def inputs(pad: int, lengths: tuple[int, ...]) -> dict[str, Tensor]:
    ids = torch.randint(4, 60, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}


def tail_of(fused: FusedModel, rung: int) -> RungTail:
    tail = fused.tails[rung]
    assert isinstance(tail, RungTail)
    return tail


@torch.inference_mode()
def check(model: SharcsForSequenceClassification, fused: FusedModel, batch: dict[str, Tensor]) -> None:
    state = model.trunk(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
    lengths = batch["attention_mask"].sum(1).numpy()
    for pack_above in (0.0, 1.0):
        layout = layout_of(lengths, pack_above, keep_mask=False, device=torch.device("cpu"))
        assert (layout.places is not None) == (pack_above == 0 and layout.mask is not None)
        hidden, router_logits = fused.trunk(batch["input_ids"], batch.get("token_type_ids"), layout)
        torch.testing.assert_close(router_logits, state.router_logits, atol=1e-5, rtol=1e-5)
        for rung in range(len(fused.tails)):
            tail = tail_of(fused, rung)
            got = tail(tail.enter(hidden), layout)
            torch.testing.assert_close(got, model.tail(state, rung), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("lengths", [(9, 4, 7, 1, 9), (6, 6)], ids=["padded", "whole"])
@pytest.mark.parametrize("model_type", list(FAMILIES))
def test_every_rung_of_every_family_gives_the_logits_of_the_stock_layers(
    stock: Callable[..., PreTrainedModel], model_type: str, lengths: tuple[int, ...], pack: bool
) -> None:
    source = stock(model_type)
    model = surgery(source)
    check(model, FusedModel(model, pack), inputs(source.config.pad_token_id, lengths))


@pytest.mark.parametrize("values", [{"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"hidden_act": "silu"}])
def test_every_activation(stock: Callable[..., PreTrainedModel], values: dict[str, Any]) -> None:
    model = surgery(stock("bert", **values))
    check(model, FusedModel(model), inputs(0, (5, 3)))


def test_token_types_learned_cuts_and_a_norm_at_the_top(stock: Callable[..., PreTrainedModel]) -> None:
    model = surgery(stock("bert"), reduction="learned", top_rung_norm=True)
    batch = inputs(0, (7, 4))
    check(model, FusedModel(model), {**batch, "token_type_ids": (batch["input_ids"] % 2) * batch["attention_mask"]})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_models_attention_kernel_does_not_matter(stock: Callable[..., PreTrainedModel], attention: str) -> None:
    model = surgery(stock("bert", attention=attention))
    check(model, FusedModel(model), inputs(0, (7, 4)))


def test_only_narrow_rungs_take_memory_of_their_own_and_shared_layers_take_it_once(
    stock: Callable[..., PreTrainedModel],
) -> None:
    bert = surgery(stock("bert"))
    assert FusedModel(bert, pack_narrow=False).packed_bytes == 0

    def layer(hidden: int, ffn: int) -> int:
        return 4 * (4 * hidden * hidden + 2 * hidden * ffn + 5 * hidden + ffn)

    head = 4 * 48 * (12 + 24 + 2)
    assert FusedModel(bert).packed_bytes == 2 * (layer(12, 16) + layer(24, 32)) + head
    albert = surgery(stock("albert"))  # its layers share their weights
    assert FusedModel(albert).packed_bytes == layer(12, 16) + layer(24, 32) + head
    owner = bert.family.depth_order(bert.encoder)[0].get_submodule("intermediate.dense.weight".rpartition(".")[0])
    assert FusedModel(bert).trunk.layers[0].ffn_in.weight.data_ptr() == owner.weight.data_ptr()  # type: ignore[union-attr]
