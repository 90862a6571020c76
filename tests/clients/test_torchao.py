"""Weights in int8 by torchao, on a model in memory and by the config that `from_pretrained` takes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TorchAoConfig

from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.models.surgery import surgery

torchao = pytest.importorskip("torchao.quantization")
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # read by torchao


def in_int8(model: Any) -> Any:
    """Return a copy of the model whose Linears have int8 weights."""
    found = copy.deepcopy(model)
    torchao.quantize_(found, torchao.Int8WeightOnlyConfig())
    return found


def rounded(model: SharcsForSequenceClassification) -> SharcsForSequenceClassification:
    """Return a copy with plain weights of the values that those in int8 stand for."""
    found, quantised = copy.deepcopy(model), in_int8(model)
    for name, parameter in found.named_parameters():
        value: Any = quantised.get_parameter(name)
        parameter.data = value.dequantize() if hasattr(value, "__tensor_flatten__") else value
    return found


@torch.no_grad()
def answers(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    return [model(**inputs, rungs=rung).logits for rung in range(3)]


@pytest.mark.parametrize("kind", ["bert", "modernbert"])  # slices of a whole weight, and of its three chunks
def test_every_width_runs_the_weights_in_int8(kind: str, stock: Any, batch: Any) -> None:
    source, inputs = stock(kind), batch(kind)
    model = surgery(source)
    found, expected = answers(in_int8(model), inputs), answers(rounded(model), inputs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    plain = answers(model, inputs)
    assert all((x - y).abs().max() > 1e-4 for x, y in zip(found, plain, strict=True))
    with torch.no_grad():
        torch.testing.assert_close(found[-1], in_int8(source)(**inputs).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_texts_go_where_the_router_in_int8_sends_them(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    found, expected = in_int8(model)(**inputs), rounded(model)(**inputs)
    torch.testing.assert_close(found.router_logits, expected.router_logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.rungs, expected.rungs)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)


def test_a_saved_state_dict_loads_again(model: SharcsForSequenceClassification, batch: Any, tmp_path: Path) -> None:
    quantised, inputs = in_int8(model), batch()
    torch.save(quantised.state_dict(), tmp_path / "weights.pt")
    model.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), assign=True)
    assert all(torch.equal(x, y) for x, y in zip(answers(model, inputs), answers(quantised, inputs), strict=True))


def test_from_pretrained_quantises_and_the_folder_that_it_saves_loads_again(
    model: SharcsForSequenceClassification, batch: Any, tmp_path: Path
) -> None:
    inputs, expected = batch(), answers(in_int8(model), batch())
    model.save_pretrained(tmp_path / "model")
    loaded = SharcsForSequenceClassification.from_pretrained(
        tmp_path / "model", quantization_config=TorchAoConfig(torchao.Int8WeightOnlyConfig())
    ).eval()
    assert all(torch.equal(x, y) for x, y in zip(answers(loaded, inputs), expected, strict=True))
    loaded.save_pretrained(tmp_path / "int8")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("int8", "model")]
    assert sizes[0] < 0.6 * sizes[1]
    again = SharcsForSequenceClassification.from_pretrained(tmp_path / "int8").eval()
    assert all(torch.equal(x, y) for x, y in zip(answers(again, inputs), expected, strict=True))


def test_the_engine_refuses_them(model: SharcsForSequenceClassification) -> None:
    with pytest.raises(
        ValueError, match=r"a torchao\..*Int8Tensor as its weight, .* precision=int8`, or call the model"
    ):
        torch_engine(in_int8(model))
