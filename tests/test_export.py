"""``sharcs export``: a finished run becomes one file, and a mistake one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from sharcs_pl.config.evaluate import DataPaths
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference import runtimes
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline import export
from tests.commands import run_line
from tests.conftest import TINY, tiny_bert, train_run
from tests.place import Place

LINE = "run=model output=model.onnx"


def checked(**values: str | bool) -> ExportConfig:
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ExportConfig), values))
    assert isinstance(config, ExportConfig)
    return config


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of `save_pretrained` with a tokenizer."""
    tokenizer = word_tokenizer()
    encoder = tiny_bert(num_hidden_layers=2, vocab_size=len(tokenizer))
    model = SharcsForSequenceClassification.from_encoder(encoder, widths=[0.25, 1], split_layer=1)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def script(printed: str) -> str:
    """The script that the command printed."""
    return printed[printed.index("import json") :]


@pytest.mark.parametrize("words", ["format=onnx", "format=onnx rung=0.25", "format=hub", "format=torch"])
def test_the_printed_script_runs_the_file_and_says_nothing_else(saved: Path, tmp_path: Path, words: str) -> None:
    pytest.importorskip("onnxruntime")
    line = [f"run={saved}", "output=FILE.pt2", *words.split()]
    done = run_line(["sharcs_pl", "export", *line], cwd=tmp_path, kind="loaded")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "of its parameters' bytes" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"FILE.pt2", "model"}
    code = script(done.stdout) + "\nprint(json.dumps(logits.tolist()))\n"
    ran = run_line(["-c", code], cwd=tmp_path, kind="stock")
    assert (ran.returncode, ran.stderr) == (0, "")
    model = SharcsForSequenceClassification.from_pretrained(saved).eval()
    texts = word_tokenizer()(["one text", "another"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(texts["input_ids"], texts["attention_mask"], rungs=0 if "rung=" in words else None).logits
    found = torch.tensor(json.loads(ran.stdout.splitlines()[-1]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["sharcs", "dense"])
def test_a_run_is_found_from_each_of_its_places(tmp_path: Path, method: str) -> None:
    train_run(tmp_path / "run", *TINY, f"method={method}", "trainer.max_epochs=2", "task.max_length=24")
    ladder = WidthLadder.parse([1] if method == "dense" else ["0.25", 1])
    for place_ in ("run", "run/model", "run/checkpoints/best.ckpt"):
        found = export.find(str(tmp_path / place_))
        assert (found.ladder, found.source.config.task.max_length) == (ladder, 24)
        assert found.tokenizer == tmp_path / "run/model"
    kept = json.loads((tmp_path / "run/model/metrics.json").read_text())
    assert kept == json.loads((tmp_path / "run/metrics.json").read_text())
    assert f"| {kept['metric']} |" in (tmp_path / "run/model/README.md").read_text()


def test_rungs_by_index_and_by_width() -> None:
    ladder = WidthLadder.parse(["1/3", "0.5", 1])
    given = {"0": 0, "2": 2, "1": 1, "1/3": 0, "0.5": 1, "0.50": 1, "1.0": 2, "1/2": 1}
    assert {text: export.rung_of(text, ladder) for text in given} == given
    for text in ("3", "0.25", "-1", "top", "1/0", "1/00", "0.333", "", "1e9999999.0", "9" * 5000):
        with pytest.raises(ValueError, match=r"0 \(width 1/3\), 1 \(width 0.5\), 2 \(width 1\)"):
            export.rung_of(text, ladder)


TEXTS_OF_KINDS = {
    "own order": ({"id2label": {"0": "yes", "1": "no"}}, ["no", "yes", "no"], [1, 0, 1]),
    "ten": ({"id2label": {str(i): f"c{i}" for i in range(11)}}, ["c10", "c2", "c1"], [10, 2, 1]),
    "no names": ({}, ["1", "0", "0.0"], [1, 0, 0]),
    "several": (
        {"id2label": {"0": "b", "1": "a", "2": "c"}, "problem_type": "multi_label_classification"},
        ["a|c", "b", "a"],
        [[0, 1, 1], [1, 0, 0], [0, 1, 0]],
    ),
    "score": ({"id2label": {"0": "LABEL_0"}, "problem_type": "regression"}, ["3", "1", "2"], [3, 1, 2]),
}


@pytest.mark.parametrize("kind", TEXTS_OF_KINDS)
def test_the_gate_of_a_model_without_a_record_has_the_labels_in_the_order_of_the_model(place: Place, kind: str) -> None:
    changes, cells, expected = TEXTS_OF_KINDS[kind]
    model_files(place, **changes)
    rows = "".join(f"text {number},{cell}\n" for number, cell in enumerate(cells))
    place.write("dev.csv", f"text,label\n{rows}")
    paths = DataPaths(dev=str(place.path / "dev.csv"), label_separator="|" if kind == "several" else None)
    config = ExportConfig(run=str(place.path / "model"), output="x", precision="int8", task=paths)
    _, texts = export.with_texts(config, open_trained(config.run, record_needed=False))
    assert texts is not None
    assert texts[2].labels.tolist() == expected
    assert texts[0].multi_label == (kind == "several")


def test_labels_that_the_model_does_not_have_are_refused(place: Place) -> None:
    model_files(place, id2label={"0": "yes", "1": "no"})
    place.write("dev.csv", "text,label\na,yes\nb,maybe\n")
    config = ExportConfig(
        run=str(place.path / "model"), output="x", precision="int8", task=DataPaths(dev=str(place.path / "dev.csv"))
    )
    with pytest.raises(ValueError, match=r"label 'maybe' is none of the classes yes, no"):
        export.with_texts(config, open_trained(config.run, record_needed=False))


def model_files(place: Place, **changes: object) -> None:
    """What looks like a saved model of ours."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
    encoder = {"model_type": "bert", "max_position_embeddings": 64} | sizes
    config = {"model_type": "sharcs", "widths": ["0.25", "1"], "encoder": encoder}
    place.write("model/config.json", json.dumps(config | changes))
    save_file({"weight": torch.zeros(8).numpy()}, place.path / "model" / "model.safetensors")


def test_an_architecture_that_cannot_be_exported_is_named_before_it_is_loaded(place: Place) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
    model_files(place, encoder={"model_type": "deberta-v2", "max_position_embeddings": 64} | sizes)
    with pytest.raises(ValueError, match=r"run=.*model: .*'deberta-v2' cannot be exported; those that"):
        export.find(str(place.path / "model"))


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("output=model.onnx", ["run is missing"]),
        ("run=model", ["output is missing"]),
        (f"{LINE} format=tflite", ["format=tflite is unknown", "onnx, hub, torch"]),
        (f"{LINE} opset=11", ["opset=11 is too old", "18"]),
        (f"{LINE} opset=999", ["opset=999 is newer than the installed onnx"]),
        (f"{LINE} opset=20 format=torch", ["opset=20 is for format=onnx"]),
        (f"{LINE} rung=2", ["rung=2 is not on the ladder", "0 (width 0.25), 1 (width 1)"]),
        (f"{LINE} rung=0.5", ["rung=0.5 is not on the ladder"]),
        (f"{LINE} run=nowhere", ["run=nowhere does not exist"]),
        (f"{LINE} run=glue", ["run=glue holds neither a run nor a saved model"]),
        (f"{LINE} run=enc", ["run=enc is no model of this project", "'bert'"]),
        (f"{LINE} output=model", ["output=model is a folder"]),
        (f"{LINE} output=a.csv", ["output=a.csv exists", "overwrite=true"]),
        (f"{LINE} output=big.onnx", ["output=big.onnx: big.onnx.data exists", "overwrite=true"]),
        (f"{LINE} output=gone/model.onnx", ["output=gone/model.onnx", "there is no folder gone"]),
        (f"{LINE} ouput=x", ["ouput", "did you mean output?"]),
        (f"{LINE} format=torch precision=int8", ["precision=int8 is for format=parts, onnx and hub"]),
        (f"{LINE} quantize.max_drop=0.5", ["quantize.max_drop=0.5 is for precision=int8"]),
        (f"{LINE} seed=2", ["seed=2 draws the texts of format=parts precision=int8", "leave it out"]),
        (f"{LINE} format=hub precision=int8 seed=2", ["seed=2 draws the texts of format=parts precision=int8"]),
        (f"{LINE} format=parts seed=2", ["seed=2 draws the texts of format=parts precision=int8"]),
        (f"{LINE} format=hub task.dev=a.csv", ["task.dev is for precision=int8", "leave it out"]),
        (f"{LINE} task.delimiter=tab", ["task.delimiter is for precision=int8", "leave it out"]),
        (f"{LINE} precision=int8 quantize.texts=20", ["quantize.texts=20 is for format=parts"]),
        (f"{LINE} precision=int8 quantize.skip=[0.25]", ["quantize.skip names 0.25", "only trunk"]),
        (f"{LINE} backend=openvino", ["backend=openvino is for format=parts"]),
        (f"{LINE} format=parts backend=tflite", ["backend=tflite is unknown", "openvino, onnxruntime"]),
        (f"{LINE} format=parts precision=int4", ["precision=int4 is unknown", "float32, int8"]),
        (f"{LINE} format=parts rung=0", ["rung=0: parts hold every width"]),
        (f"{LINE} format=parts quantize.max_drop=2", ["quantize.max_drop=2", "between 0 and 1"]),
        (f"{LINE} format=parts quantize.texts=0", ["quantize.texts=0"]),
        (f"{LINE} format=parts quantize.skip=[trunk]", ["quantize.skip=['trunk'] is for precision=int8"]),
        ("run=model format=parts backend=onnxruntime output=glue", ["output=glue holds other files"]),
        (
            "run=model format=parts backend=onnxruntime precision=int8 output=new quantize.skip=[0.3]",
            ["quantize.skip names 0.3; this model has trunk, 0.25, 1"],
        ),
    ],
)
def test_mistakes(place: Place, line: str, pieces: list[str]) -> None:
    pytest.importorskip("onnxruntime")  # without the extra that is the mistake
    model_files(place)
    place.write("big.onnx.data", "the user's")
    place.refuse(line, *pieces, command="export")


def test_damaged_weights(place: Place) -> None:
    model_files(place)
    (place.path / "model/model.safetensors").write_bytes(b"\x90" * 99)
    place.refuse(f"{LINE} format=torch", "model.safetensors is damaged", command="export")


def test_a_folder_that_may_not_be_written_to(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    model_files(place)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="may not be written to"):
        export.run(checked(run=str(place.path / "model"), output=str(place.path / "x"), format="torch"))


def test_without_the_extra_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ValueError, match=r"onnxruntime: pip install 'sharcs-pl\[onnx\]'"):
        export.run(checked(run="nowhere", output="x.onnx"))
    with pytest.raises(ValueError, match="run=nowhere does not exist"):
        export.run(checked(run="nowhere", output="x.pt2", format="torch"))
