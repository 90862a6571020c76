"""``sharcs evaluate`` and ``sharcs calibrate`` with ``backend=`` and ``precision=`` measure what ``predict`` runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from sharcs_pl import calibrate, evaluate, predict
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.inference.backend_model import BackendModel
from sharcs_pl.inference.parts import PartsBackend
from sharcs_pl.inference.record import MARKER
from sharcs_pl.inference.torch_backend import TorchBackend
from sharcs_pl.pipeline import validate
from tests.inference.conftest import needs


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[BackendModel]:
    """The models that answered behind a backend."""
    found: list[BackendModel] = []
    load_served = validate.load_served
    monkeypatch.setattr(validate, "load_served", lambda *args: found.append(load_served(*args)) or found[-1])
    return found


def test_another_runtime_gives_the_table_of_torch(tiny_run: Path, tmp_path: Path, loaded: list[BackendModel]) -> None:
    needs("onnxruntime")
    own = json.loads((tiny_run / "metrics.json").read_text())
    config = EvaluateConfig(run=str(tiny_run), output=str(tmp_path / "out"), backend="onnxruntime")
    found = evaluate.run(config)
    assert found is not None
    assert isinstance(loaded[0].backend, PartsBackend)
    assert found.pop("backend") == "onnxruntime"
    assert found["routed"]["value"] == own["routed"]["value"]
    one, other = (_rows(folder / "predictions.tsv") for folder in (tiny_run, tmp_path / "out"))
    for key in ("rung", "prediction", "macs"):
        assert [row[key] for row in one] == [row[key] for row in other]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_half_precision_is_the_engine_of_predict_also_from_a_checkpoint(
    tiny_run: Path, tmp_path: Path, loaded: list[BackendModel]
) -> None:
    for number, source in enumerate((tiny_run, tiny_run / "checkpoints" / "best.ckpt")):
        output = str(tmp_path / f"out{number}")
        config = EvaluateConfig(run=str(source), output=output, precision="bfloat16", compare=str(tiny_run))
        found = evaluate.run(config)
        assert found is not None
        assert found["precision"] == "bfloat16"
    assert len(loaded) == 2  # what is compared with answers as training left it
    backend = loaded[0].backend
    assert isinstance(backend, TorchBackend)
    assert backend.model.dtype == torch.bfloat16


def test_a_point_of_another_runtime_is_measured_and_timed_there(
    tiny_run: Path, tmp_path: Path, loaded: list[BackendModel], capsys: pytest.CaptureFixture[str]
) -> None:
    point = calibrate.run(
        CalibrateConfig(
            run=str(tiny_run),
            precision="bfloat16",
            latency_ms=1e6,
            latency_repeats=3,
            name="fast",
            output=str(tmp_path / "out"),
        )
    )
    assert point["precision"] == "bfloat16"
    kept = json.loads((tiny_run / "model/config.json").read_text())["operating_points"]["fast"]
    assert kept["precision"] == "bfloat16"
    assert isinstance(loaded[0].backend, TorchBackend)
    assert "milliseconds per text" in capsys.readouterr().out


def test_a_point_of_another_precision_is_warned_of_once(tiny_run: Path, tmp_path: Path) -> None:
    path = tiny_run / "model" / "config.json"
    settings = json.loads(path.read_text())
    point = {"thresholds": [0.0] * (len(settings["widths"]) - 1), "precision": "bfloat16"}
    path.write_text(json.dumps(settings | {"operating_points": {"fast": point}, "operating_point": "fast"}))
    (tmp_path / "texts.txt").write_text("w1 w2\n")
    for command in (
        lambda: evaluate.run(EvaluateConfig(run=str(tiny_run), output=str(tmp_path / "out"))),
        lambda: predict.run(
            PredictConfig(run=str(tiny_run), input=str(tmp_path / "texts.txt"), output=str(tmp_path / "out.jsonl"))
        ),
    ):
        with pytest.warns(DataWarning, match="point=fast was chosen with precision=bfloat16, which") as told:
            command()
        assert len(told) == 1


def test_another_runtime_needs_no_device_of_training(
    tiny_run: Path, tmp_path: Path, loaded: list[BackendModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    record = json.loads((tiny_run / MARKER).read_text())
    record["config"]["trainer"]["accelerator"] = "gpu"
    (tiny_run / MARKER).write_text(json.dumps(record))
    found = evaluate.run(EvaluateConfig(run=str(tiny_run), output=str(tmp_path / "out"), backend="onnxruntime"))
    assert found is not None
    assert isinstance(loaded[0].backend, PartsBackend)
    with pytest.raises(ValueError, match="accelerator=gpu: torch sees no such device here"):
        evaluate.run(EvaluateConfig(run=str(tiny_run), output=str(tmp_path / "none"), precision="bfloat16"))
