"""What is written as parts answers as the model, in float32 or int8."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference import export_parts
from sharcs_pl.inference.export_parts import as_exported, batches_of, serve_parts, write_graphs, write_parts
from sharcs_pl.inference.parts import PartsFacts
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import needs, spread_router
from tests.inference.made import texts
from tests.models.conftest import Stock
from tests.models.surgery import surgery

LENGTH = 24


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_int8_is_close_and_what_is_skipped_stays_as_it_is(
    two_widths: SharcsForSequenceClassification, graphs: Path, tmp_path: Path, backend: str
) -> None:
    needs(backend)
    pytest.importorskip("nncf") if backend == "openvino" else None
    own = RoutedPredictor(two_widths, word_tokenizer(), max_length=LENGTH)
    given, calibration = texts(60), own.tokenize(texts(40, seed=5))
    ways = {"whole": (calibration, ()), "some": (calibration, ("trunk", "tail_0")), "float": (None, ())}
    for name, (ranges, skipped) in ways.items():
        folder = tmp_path / name
        folder.mkdir()
        difference = write_parts(two_widths, word_tokenizer(), graphs, folder, backend, LENGTH, ranges, skipped)
        assert math.isnan(difference) == (ranges is not None)
    facts = {name: PartsFacts.read(tmp_path / name) for name in ways}
    assert [each.precision for each in facts.values()] == ["int8", "int8", "float32"]
    files = [f"{part}.{'onnx' if backend == 'onnxruntime' else 'bin'}" for part in ("trunk", "tail_0", "tail_1")]
    assert [facts["whole"].files[file] == facts["float"].files[file] for file in files] == [False] * 3
    assert [facts["some"].files[file] == facts["float"].files[file] for file in files] == [True, True, False]
    expected, found = own.predict(given), RoutedPredictor.from_pretrained(tmp_path / "whole").predict(given)
    gaps = [np.abs(np.subtract(x.probabilities, y.probabilities)).max() for x, y in zip(found, expected, strict=True)]
    assert 0 < max(gaps) < 0.01
    assert np.mean([x.rung == y.rung for x, y in zip(found, expected, strict=True)]) > 0.9


def test_parts_that_answer_otherwise_are_refused(
    two_widths: SharcsForSequenceClassification, graphs: Path, tmp_path: Path
) -> None:
    needs("onnxruntime")
    other = SharcsForSequenceClassification(two_widths.config).eval()
    with pytest.raises(ValueError, match="the exported parts answer otherwise than the model"):
        write_parts(other, word_tokenizer(), graphs, tmp_path, "onnxruntime", LENGTH)


def test_batches_of_a_calibration_hold_every_text_once() -> None:
    needs("onnxruntime")
    found = list(batches_of(_tokens([3, 1, 2, 5, 4]), 2))
    assert [batch.lengths.tolist() for batch in found] == [[1, 2], [3, 4], [5]]
    assert np.concatenate([batch.index for batch in found]).tolist() == [1, 2, 0, 4, 3]


def _tokens(lengths: list[int]) -> export_parts.Tokens:
    ids = np.arange(sum(lengths), dtype=np.int32)
    return export_parts.Tokens(ids, None, np.concatenate([[0], np.cumsum(lengths)]), 0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("family", ["mpnet", "albert", "roberta", "xlm-roberta", "electra", "distilbert"])
def test_every_family_that_is_written_out(stock: Stock, tmp_path: Path, family: str, backend: str) -> None:
    needs(backend)
    model = surgery(stock(family))
    spread_router(model)
    graphs, folder = tmp_path / "graphs", tmp_path / "parts"
    for path in (graphs, folder):
        path.mkdir()
    write_graphs(model, graphs)
    assert write_parts(model, word_tokenizer(), graphs, folder, backend, LENGTH) < 1e-5


def test_a_family_that_is_not_written_out_is_named(stock: Stock, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'modernbert' cannot be exported"):
        write_graphs(surgery(stock("modernbert")), tmp_path)


def test_int8_asks_for_texts_before_anything_is_exported(two_widths: SharcsForSequenceClassification) -> None:
    needs("onnxruntime")
    with pytest.raises(ValueError, match="precision=int8 needs texts to calibrate on: sharcs export format=parts"):
        RoutedPredictor(two_widths, word_tokenizer(), backend="onnxruntime", precision="int8")
    with pytest.raises(ValueError, match="backend=tflite is unknown; choose one of: torch, onnxruntime, openvino"):
        serve_parts(two_widths, word_tokenizer(), None, "tflite")


def test_a_predictor_exports_for_itself(
    two_widths: SharcsForSequenceClassification, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")

    def kept(model: SharcsForSequenceClassification, folder: Path) -> None:
        for path in graphs.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(export_parts, "write_graphs", kept)
    given = texts(20)
    own = RoutedPredictor(two_widths, word_tokenizer(), max_length=LENGTH)
    other = RoutedPredictor(two_widths, word_tokenizer(), max_length=LENGTH, backend="onnxruntime", threads=1)
    assert [each.label for each in other.predict(given)] == [each.label for each in own.predict(given)]
    assert not isinstance(other.engine.backend, type(own.engine.backend))
    torch.testing.assert_close(*(torch.tensor([x.probabilities for x in p.predict(given)]) for p in (own, other)))
    with pytest.raises(ValueError, match="parts that were exported in memory do not travel"):
        copy.deepcopy(other)


def test_a_model_of_half_precision_is_exported_as_a_copy(two_widths: SharcsForSequenceClassification) -> None:
    assert as_exported(two_widths) is two_widths
    half = two_widths.bfloat16()
    assert as_exported(half).dtype == torch.float32
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compile": True, "backend": "onnxruntime"}, "compile=true is for torch, not for backend=onnxruntime"),
        ({"threads": 2}, "threads=2 is for another backend"),
    ],
)
def test_options_of_another_backend_are_refused(
    two_widths: SharcsForSequenceClassification, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RoutedPredictor(two_widths, word_tokenizer(), **options)
