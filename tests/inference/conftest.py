"""The tiny stock models of the model tests, and a routed model with a tokenizer in a folder."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.export import export_onnx
from sharcs_pl.inference.export_parts import write_graphs
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.conftest import tiny_bert
from tests.models.conftest import _one_thread, batch, stock  # noqa: F401  (fixtures)
from tests.models.surgery import surgery

WORDS = ["good", "bad", "very", "not", "the", "film"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved routed BERT of the widths 1/4, 1/2 and 1 whose router uses all three."""
    path = tmp_path_factory.mktemp("routed")
    tokenizer = word_tokenizer()
    torch.manual_seed(1)
    source = tiny_bert(num_labels=3, vocab_size=len(tokenizer))
    source.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
    model = surgery(source)
    spread_router(model)
    model.save_pretrained(path)
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(path)
    return path


def needs(backend: str) -> None:
    """Skip the test where a runtime, or what exports for it, is not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime", backend):
        pytest.importorskip(name)


@pytest.fixture(scope="session")
def shared_model() -> SharcsForSequenceClassification:
    """A routed BERT of two layers and the widths 1/4 and 1 whose router uses both."""
    torch.manual_seed(1)
    source = tiny_bert(num_labels=3, num_hidden_layers=2, vocab_size=len(word_tokenizer()))
    model = SharcsForSequenceClassification.from_encoder(source, widths=[0.25, 1], split_layer=1, router_hidden_size=8)
    spread_router(model)
    return model.eval()


@pytest.fixture
def two_widths(shared_model: SharcsForSequenceClassification) -> SharcsForSequenceClassification:
    """A copy of `shared_model`."""
    return copy.deepcopy(shared_model)


@pytest.fixture(scope="session")
def graphs(shared_model: SharcsForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trunk and the tails of `shared_model` as ONNX, which take long to write."""
    needs("onnxruntime")
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(shared_model, folder)
    return folder


def spread_router(model: SharcsForSequenceClassification) -> None:
    """A router whose choice depends on the text: random models would send everything one way."""
    assert model.router is not None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.router.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        ids = torch.randint(4, 20, (64, 9), generator=generator)
        logits = model(ids).router_logits
        scale = logits.std(0)
        model.router.output.weight.div_(scale[:, None])
        model.router.output.bias.sub_(logits.mean(0)).div_(scale)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[SharcsForSequenceClassification, Path]:
    """A routed BERT of the widths 1/4, 1/2 and 1, large enough that its graph cuts the weights which the widths share,
    and this graph."""
    needs("onnxruntime")
    torch.manual_seed(2)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "initializer_range": 0.1}
    source = tiny_bert(num_labels=3, vocab_size=len(word_tokenizer()), **sizes)
    model = surgery(source, widths=(0.25, 0.5, 1), split_layer=1)
    spread_router(model)
    path = tmp_path_factory.mktemp("whole") / "model.onnx"
    export_onnx(model, path)
    return model.eval(), path
