"""The runtime that answers is checked before a model is loaded, and the one way to it is that of ``sharcs predict``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.config import RunConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.inference import serving
from sharcs_pl.inference.backend_model import BackendModel, engine_of
from sharcs_pl.inference.parts import PARTS
from sharcs_pl.inference.serving import Serving
from sharcs_pl.inference.torch_backend import TorchBackend
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import needs
from tests.inference.made import batch

SETTINGS = {"model_type": "sharcs", "widths": ["0.25", "1"], "encoder": {"model_type": "bert"}}


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"precision": "int8"}, {}, "precision=int8: torch computes in float32 or bfloat16; int8 needs texts"),
        ({"backend": "torch", "precision": "int8"}, {}, "torch computes in float32 or bfloat16"),
        (
            {"backend": "onnxruntime", "precision": "int8"},
            {},
            "precision=int8: int8 needs texts to calibrate on: sharcs",
        ),
        (
            {"backend": "onnxruntime", "precision": "bfloat16"},
            {},
            "precision=bfloat16: onnxruntime computes in float32 or int8 on CPUs",
        ),
        (
            {"backend": "onnxruntime"},
            {"encoder": {"model_type": "modernbert"}},
            "backend=onnxruntime: run=model: a model of architecture 'modernbert' cannot be exported; those that can",
        ),
        ({"backend": "onnxruntime"}, {"model_type": "sharcs_exits"}, "backend=onnxruntime: run=model has exits or"),
        ({"precision": "float32"}, {"skim": {"weight": 1}}, "precision=float32: run=model has exits or skips tokens"),
    ],
)
def test_what_cannot_answer_is_told_from_the_config(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    needs("onnxruntime")
    monkeypatch.setattr(serving, "saved_settings", lambda weights: SETTINGS | changes)
    source = TrainedModel(Path("model"), Path(), RunConfig())
    with pytest.raises(ValueError, match=message):
        Serving(**options).check(source)


def test_only_what_is_asked_for_is_checked_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "saved_settings", lambda weights: {"model_type": "sharcs_exits"})
    source = TrainedModel(Path("model"), Path(), RunConfig())
    for plain in (Serving(), Serving(backend="torch")):
        plain.check(source)
        assert (plain.asked, plain.told()) == (False, {})
    assert Serving("torch", "bfloat16").told() == {"backend": "torch", "precision": "bfloat16"}
    assert Serving("openvino").told() == {"backend": "openvino"}


@pytest.mark.parametrize(
    ("chosen", "options", "parts", "told"),
    [
        ({}, {"backend": "openvino"}, None, None),
        ({"precision": "bfloat16"}, {"precision": "bfloat16"}, None, None),
        ({"precision": "bfloat16"}, {}, None, "point=p was chosen with precision=bfloat16, which"),
        ({"backend": "openvino"}, {"backend": "torch"}, None, "chosen with backend=openvino, which"),
        ({"backend": "openvino", "precision": "int8"}, {}, "int8", None),
        ({"backend": "openvino", "precision": "int8"}, {}, "float32", "chosen with precision=int8, which"),
        ({"precision": "float32"}, {"precision": "bfloat16"}, "float32", "chosen with precision=float32, which"),
    ],
)
def test_a_point_of_another_runtime_or_precision_is_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: dict[str, str],
    options: dict[str, str],
    parts: str | None,
    told: str | None,
) -> None:
    settings = {"operating_points": {"p": chosen, "bare": {}}}
    if parts is not None:
        (tmp_path / PARTS).write_text(json.dumps({"backend": "openvino", "precision": parts}))
    monkeypatch.setattr(serving, "saved_settings", lambda weights: settings)
    source = TrainedModel(tmp_path, Path(), RunConfig())
    for kept, given in (({"operating_point": "p"}, None), ({}, "p")):
        settings |= {"operating_point": None} | kept
        with pytest.warns(DataWarning, match=told) if told else nullcontext():
            Serving(**options).warn_of_point(source, given)
    Serving(**options).warn_of_point(source, "bare")
    Serving(**options).warn_of_point(source, None)


def test_an_engine_in_torch_stands_for_its_model(two_widths: SharcsForSequenceClassification) -> None:
    given = batch()
    ids = torch.from_numpy(given.input_ids)
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(given.lengths)[:, None]).long()
    with torch.no_grad():
        expected = two_widths.all_rungs(ids, mask)
    model = BackendModel.of(two_widths.config, TorchBackend(two_widths))
    found = model.double().all_rungs(ids, mask)  # nothing to convert
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.signals, expected.signals, atol=1e-5, rtol=1e-5)
    assert engine_of(model).backend is model.backend
    half = BackendModel.of(two_widths.config, TorchBackend(two_widths, precision="bfloat16")).all_rungs(ids, mask)
    assert 1e-5 < (half.logits - expected.logits).abs().max() < 0.05
