"""``sharcs export format=parts``: a run becomes a folder that the other commands take, unless int8 costs too much."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl import calibrate, evaluate, export, predict
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.export import ExportConfig, QuantizeOptions
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.core.finite import read_json
from sharcs_pl.inference.export_parts import write_graphs
from sharcs_pl.inference.parts import PARTS
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.pipeline import gate, parts
from tests.pipeline.spoiled import spoiled

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


def config_of(run: Path, **changes: Any) -> ExportConfig:
    quantize = QuantizeOptions(max_drop=1.0, texts=16)
    config = ExportConfig(run=str(run), output=str(run.parent / "parts"), format="parts", backend="onnxruntime")
    return replace(config, **{"precision": "int8", "quantize": quantize, **changes})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(autouse=True)
def once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of the one run of these tests, which take long to write, are written by the first test."""

    def written(model: Any, folder: Path, tick: Callable[[], object]) -> None:
        if not any(exported.iterdir()):
            write_graphs(model, exported)
        shutil.copytree(exported, folder, dirs_exist_ok=True)

    monkeypatch.setattr(parts, "write_graphs", written)


def test_every_command_takes_parts_of_int8(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = export.run(config_of(tiny_run))
    assert isinstance(found, dict)
    folder = tmp_path / "parts"
    printed = capsys.readouterr().out
    assert "int8 and float32 on 24 texts" in printed
    assert f"RoutedPredictor.from_pretrained({str(folder)!r})" in printed
    assert found["float32"]["agreement"] == found["float32"]["routed alike"] == 1.0
    assert {"training.json", "train_texts.npy"} <= {path.name for path in folder.iterdir()}
    assert read_json(folder / "quantization.json") == json.loads(json.dumps(found))

    metrics = evaluate.run(EvaluateConfig(run=str(folder), output=str(tmp_path / "evaluated")))
    assert metrics is not None
    assert metrics["routed"]["value"] == pytest.approx(found["int8"]["value"])

    calibrate.run(
        CalibrateConfig(run=str(folder), budget=0.9, name="cheap", rule="cascade", output=str(tmp_path / "c"))
    )
    assert "cheap" in read_json(folder / "config.json")["operating_points"]
    texts = tmp_path / "texts.txt"
    texts.write_text("very good\nnot bad\n")
    predict.run(PredictConfig(run=str(folder), input=str(texts), output=str(tmp_path / "out.jsonl"), point="cheap"))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = RoutedPredictor.from_pretrained(folder, point="cheap").predict(["very good", "not bad"])
    assert [row["label"] for row in rows] == [each.label for each in expected]

    with pytest.raises(ValueError, match="exists; add overwrite=true"):
        export.run(config_of(tiny_run))


def test_int8_that_costs_too_much_is_told_and_not_written(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "answered", spoiled(gate.answered))
    with pytest.raises(ValueError, match=r"quantize.max_drop=0.01: int8 lowers accuracy by .*; leave parts in float32"):
        export.run(config_of(tiny_run, quantize=QuantizeOptions(texts=16)))
    assert "agreement" in capsys.readouterr().out
    assert not (tmp_path / "parts").exists()


def test_without_vnni_the_reader_is_warned(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for known in (False, True):
        monkeypatch.setattr(gate, "has_int8", lambda known=known: known)
        export.run(config_of(tiny_run, overwrite=known))
        assert ("no instructions for products of int8" in capsys.readouterr().err) == (not known)


def test_float_parts_need_no_texts(tiny_run: Path, tmp_path: Path) -> None:
    model = tiny_run / "model"
    (model / "training.json").unlink()
    plain = config_of(model, precision="float32", quantize=QuantizeOptions(), output=str(tmp_path / "parts"))
    assert export.run(plain) == {}
    assert (tmp_path / "parts" / PARTS).is_file()
    assert RoutedPredictor.from_pretrained(tmp_path / "parts").predict(["good"])
    with pytest.raises(ValueError, match=r"task\.dev is missing"):
        export.run(config_of(model, output=str(tmp_path / "other")))
