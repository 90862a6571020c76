"""``sharcs export precision=int8`` as one graph: a file, or one beside the float32 one, unless int8 costs too much."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharcs_pl import export
from sharcs_pl.config.export import ExportConfig, QuantizeOptions
from sharcs_pl.inference.export import Exported, export_onnx, onnx_answer
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline import gate, graphs
from tests.commands import run_line
from tests.models.conftest import Stock
from tests.models.surgery import surgery
from tests.pipeline.spoiled import spoiled

pytest.importorskip("onnxscript")  # of the extra [onnx]
pytest.importorskip("onnxruntime")

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


def config_of(run: Path, **changes: Any) -> ExportConfig:
    config = ExportConfig(run=str(run), output=str(run.parent / "out"), precision="int8")
    return replace(config, **{"quantize": QuantizeOptions(max_drop=1.0), **changes})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Writes a graph of the one run of these tests, once each, as it takes long."""
    folder = tmp_path_factory.mktemp("kept")

    @cache
    def first(model: SharcsForSequenceClassification, rung: int | None, options: frozenset[Any]) -> Exported:
        return export_onnx(model, folder / f"{rung}.onnx", rung=rung, **dict(options))

    loaded: list[SharcsForSequenceClassification] = []

    def written(model: SharcsForSequenceClassification, path: Path, *, rung: int | None, **options: Any) -> Exported:
        loaded.append(model)
        done = first(loaded[0], rung, frozenset(options.items()))
        shutil.copyfile(done.path, path)
        return replace(done, path=path)

    return written


@pytest.fixture(autouse=True)
def once(kept: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(graphs, "export_onnx", kept)


def test_a_folder_for_the_hub_has_both_and_the_printed_script_takes_int8(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = export.run(config_of(tiny_run, format="hub"))
    assert isinstance(found, Exported)
    plain, int8 = (tmp_path / "out/onnx" / name for name in ("model.onnx", "model_quantized.onnx"))
    assert found.path == int8
    assert found.file_bytes == int8.stat().st_size < plain.stat().st_size
    facts = json.loads((tmp_path / "out/export.json").read_text())
    assert (facts["int8"]["metric"], facts["int8"]["samples"]) == ("accuracy", 24)
    assert facts["int8"]["float32"]["agreement"] == facts["int8"]["float32"]["routed alike"] == 1.0

    printed = capsys.readouterr().out
    assert "int8 and float32 on 24 texts" in printed
    assert printed.count("largest difference to the model's own logits") == 1
    code = printed[printed.index("import json") :] + "\nprint(json.dumps([logits.tolist(), facts['precision']]))\n"
    ran = run_line(["-c", code], cwd=tmp_path, kind="stock")
    assert (ran.returncode, ran.stderr) == (0, "")
    logits, precision = json.loads(ran.stdout.splitlines()[-1])
    assert precision == "int8"
    assert np.shape(logits) == (2, 2)


def test_one_width_in_int8_is_measured_alone(tiny_run: Path, tmp_path: Path) -> None:
    found = export.run(config_of(tiny_run, rung="0"))
    assert isinstance(found, Exported)
    assert np.isnan(found.difference)
    assert [path.name for path in tmp_path.glob("out*")] == ["out"]
    assert onnx_answer(found.path)
    export.run(config_of(tiny_run, format="hub", rung="0", output=str(tmp_path / "hub")))
    facts = json.loads((tmp_path / "hub/export.json").read_text())["int8"]
    narrow, *_ = json.loads((tiny_run / "metrics.json").read_text())["rungs"]
    assert narrow["macs_fraction"] < 0.9
    for precision in ("float32", "int8"):
        assert facts[precision]["of dense MACs"] == pytest.approx(narrow["macs_fraction"])
        assert facts[precision]["routed alike"] == 1.0
    assert facts["float32"]["value"] == narrow["value"]


def test_a_trunk_that_every_layer_shares_its_weights_with_is_not_left_out(stock: Stock) -> None:
    for rung in (None, 0):
        with pytest.raises(ValueError, match=r"quantize.skip=\[trunk\]: the widths of this model share the weights"):
            graphs.int8_weights(surgery(stock("albert")), rung)
    bert = graphs.int8_weights(surgery(stock("bert")), 0)
    assert "tails.0.layers.0.ffn_in.product.weight" in bert
    assert not any(name.startswith("trunk.") for name in bert)


def test_a_graph_in_int8_that_costs_too_much_is_not_written(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = gate.answered
    for format in ("onnx", "hub"):
        monkeypatch.setattr(gate, "answered", spoiled(answered))
        with pytest.raises(ValueError, match=r"quantize.max_drop=0.01: int8 lowers accuracy by .*; leave the layers"):
            export.run(config_of(tiny_run, format=format, quantize=QuantizeOptions()))
        assert "agreement" in capsys.readouterr().out
        assert {path.name for path in tmp_path.iterdir()} == {"cache", "run"}


def test_the_texts_of_the_gate_are_asked_for_before_a_model_is_loaded(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "load_model", None)
    (tiny_run / "model" / "training.json").unlink()
    with pytest.raises(ValueError, match=r"task\.dev is missing"):
        export.run(config_of(tiny_run / "model"))
