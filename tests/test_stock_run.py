"""A dense run leaves an ordinary checkpoint of transformers, which every command goes on reading; `sharcs export` makes
one of any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from sharcs_pl import bench, evaluate, export, reorder
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.evaluate import CostOptions, EvaluateConfig
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.inference.export import Exported
from sharcs_pl.inference.loading import load_model
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.predict import run as predict
from sharcs_pl.runs.directory import run_config
from tests.commands import run_line
from tests.conftest import TINY, compose_config, tiny_bert, train_run
from tests.place import RECORD, Place

SMALL = (*TINY, "task.train_size=32", "task.dev_size=16", "trainer.max_epochs=2", "checkpoint.save_last=false")
TEXTS = ["a fine good film", "the plot was not good"]
READ = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)
with torch.no_grad():
    logits = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
assert not [name for name in sys.modules if name.startswith("sharcs")]
print(json.dumps([logits.tolist(), model.config.id2label, model.config.problem_type, tokenizer.model_max_length]))
"""


def trained(folder: Path, *overrides: str) -> dict[str, Any]:
    return train_run(folder, *SMALL, *overrides)


def made(schema: type, **values: Any) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))


def as_strangers_read(folder: Path) -> tuple[torch.Tensor, dict[str, str], str, int]:
    done = run_line(["-c", READ, str(folder), json.dumps(TEXTS)], cwd=folder, kind="stock")
    assert done.returncode == 0, done.stderr
    logits, *about = json.loads(done.stdout)
    return torch.tensor(logits), *about


@torch.no_grad()
def own_logits(run: Path, rungs: int | None = None) -> torch.Tensor:
    source = open_trained(str(run))
    model, predictor = load_model(source), RoutedPredictor.from_pretrained(run)
    found = predictor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    return model(found["input_ids"], found["attention_mask"], rungs=rungs).logits


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense run, the same as an older version left it, and a routed one."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        trained(folder / "dense", "method=dense")
        trained(folder / "routed")
    shutil.copytree(folder / "dense", folder / "older")
    model = SharcsForSequenceClassification.from_pretrained(folder / "dense" / "model")
    model.save_pretrained(folder / "older" / "model")
    return folder


def test_a_dense_run_is_read_by_stock_transformers(runs: Path) -> None:
    logits, labels, problem, longest = as_strangers_read(runs / "dense" / "model")
    torch.testing.assert_close(logits, own_logits(runs / "dense"), rtol=0, atol=1e-6)
    config = run_config(compose_config(*SMALL))
    assert (len(labels), problem, longest) == (2, "single_label_classification", config.task.max_length)
    assert json.loads((runs / "older" / "model" / "config.json").read_text())["model_type"] == "sharcs"
    card = (runs / "dense" / "model" / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "adaptive" not in card
    assert "import SharcsForSequenceClassification" not in card


@pytest.mark.parametrize("name", ["dense", "older"])
def test_every_command_reads_a_dense_run(runs: Path, tmp_path: Path, name: str) -> None:
    run = runs / name
    kept = json.loads((run / "metrics.json").read_text())
    for place_ in (run, run / "model", run / "checkpoints" / "best.ckpt"):
        again = evaluate.run(made(EvaluateConfig, run=str(place_), output=str(tmp_path / "evaluated")))
        assert again is not None
        assert (again["routed"], again["rungs"]) == (kept["routed"], kept["rungs"])
    evaluate.run(
        EvaluateConfig(run=str(runs / "routed"), compare=str(run), output=str(tmp_path / "compared"), draws=100)
    )
    evaluate.run(EvaluateConfig(run=str(run), output=str(tmp_path / "audited"), cost=CostOptions(audit=True)))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in TEXTS))
    answers = tmp_path / "out.jsonl"
    predict(made(PredictConfig, run=str(run), input=str(tmp_path / "in.jsonl"), output=str(answers)))
    assert [json.loads(line)["width"] for line in answers.read_text().splitlines()] == ["1", "1"]
    options = {"samples": 4, "repeats": 1, "warmup": 0, "batch_sizes": [4], "modes": ["batch"]}
    bench.run(made(BenchConfig, run=str(runs / "routed"), dense=str(run), **options))
    bench.run(made(BenchConfig, run=str(run), **options))
    words = [f"run={run}", f"output={tmp_path / 'order'}", "samples=8"]
    reorder.run(read_command("reorder", ReorderConfig, words))
    export.run(made(ExportConfig, run=str(run), format="torch", output=str(tmp_path / "dense.pt2")))
    export.run(made(ExportConfig, run=str(run), format="transformers", output=str(tmp_path / "stock")))
    torch.testing.assert_close(as_strangers_read(tmp_path / "stock")[0], own_logits(run), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "older"])
def test_a_dense_run_teaches_and_is_trained_further(runs: Path, tmp_path: Path, name: str) -> None:
    model = runs / name / "model"
    trained(tmp_path / "taught", "method=distilled", f"method.teacher={runs / name}")
    still = ("recipe=none", "optim.lr=0", "optim.weight_decay=0")
    trained(tmp_path / "further", "encoder=custom", f"encoder.pretrained={model}", *still)
    further = SharcsForSequenceClassification.from_pretrained(tmp_path / "further" / "model")
    before = SharcsForSequenceClassification.from_pretrained(model).encoder.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in further.encoder.state_dict().items())


def test_the_dense_model_has_no_norm_that_stock_transformers_lacks(tmp_path: Path) -> None:
    trained(tmp_path, "method=dense", "width.top_rung_norm=true")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "bert"
    as_strangers_read(tmp_path / "model")


@pytest.mark.parametrize(
    "method", ["sharcs", "slimmable", "pabee", "berxit method.exit_head=linear", "fixed method.width=1"]
)
def test_the_widest_run_of_other_methods_is_exported(tmp_path: Path, method: str, capsys: Any) -> None:
    trained(tmp_path / "run", *f"method={method}".split())
    done = export.run(
        made(ExportConfig, run=str(tmp_path / "run"), format="transformers", output=str(tmp_path / "out"))
    )
    assert isinstance(done, Exported)
    assert done.difference <= 1e-6
    assert "AutoModelForSequenceClassification.from_pretrained" in capsys.readouterr().out
    model = load_model(open_trained(str(tmp_path / "run")))
    from sharcs_pl.inference.loading import load_tokenizer

    inputs = load_tokenizer(open_trained(str(tmp_path / "run")))(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.all_rungs(inputs["input_ids"], inputs["attention_mask"]).logits[:, -1]
    found, labels, _, _ = as_strangers_read(tmp_path / "out")
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-6)
    assert labels == {str(key): value for key, value in model.config.id2label.items()}  # pyright: ignore[reportOptionalMemberAccess]
    card = (tmp_path / "out" / "README.md").read_text()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert f"| every text at width 1 | {metrics['rungs'][-1]['value']:.4f} |" in card
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "export.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_an_earlier_export_alone_is_replaced(runs: Path, tmp_path: Path) -> None:
    given = {"run": str(runs / "routed"), "format": "transformers", "output": str(tmp_path / "out")}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"output=.*out holds other files"):
            export.run(made(ExportConfig, **given, overwrite=overwrite))
    (tmp_path / "out" / "mine.txt").unlink()
    export.run(made(ExportConfig, **given))
    with pytest.raises(ValueError, match=r"output=.*out exists; add overwrite=true"):
        export.run(made(ExportConfig, **given))
    export.run(made(ExportConfig, **given, overwrite=True, rung="1"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    # It may be given away, and names no place of this machine.
    texts = [path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".json", ".md")]
    assert not [text for text in texts if str(runs) in text]
    (tmp_path / "out" / "mine.txt").write_text("x")
    (tmp_path / "out" / "vocab.txt").write_text("x")
    with pytest.raises(ValueError, match=r"out/vocab.txt is there and was not written by this command"):
        export.run(made(ExportConfig, **given, overwrite=True))
    (tmp_path / "out" / "vocab.txt").unlink()
    export.run(made(ExportConfig, **given, overwrite=True))
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


def test_a_regression_says_so(tmp_path: Path) -> None:
    from sharcs_pl.models.saved import save_model

    model = SharcsForSequenceClassification.from_encoder(tiny_bert(1), widths=[1], split_layer=1)
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["problem_type"], len(config["id2label"])) == ("regression", 1)


ENCODER = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
ENCODER |= {"intermediate_size": 32, "max_position_embeddings": 64}
LINE = "run=model format=transformers output=out"


@pytest.mark.parametrize(
    ("settings", "line", "pieces"),
    [
        ({}, f"{LINE} rung=0", ["rung=0 has no stock form", "behind a trunk of full width", "give rung=1"]),
        ({}, f"{LINE} rung=0.25", ["rung=0.25 has no stock form", "one size for all layers"]),
        ({"cut": "heads_ffn"}, f"{LINE} rung=0", ["rung=0 has no stock form"]),
        ({}, f"{LINE} rung=7", ["rung=7 is not on the ladder"]),
        ({"widths": ["0.5"]}, LINE, ["run=model has no stock form", "width 0.5"]),
        ({"top_rung_norm": True}, LINE, ["run=model has no stock form", "width.top_rung_norm=true"]),
        ({"skim": 8}, LINE, ["run=model has no stock form", "skips tokens"]),
        ({"model_type": "sharcs_skim"}, LINE, ["run=model has no stock form", "skips tokens"]),
        ({"model_type": "sharcs_exits", "widths": None}, f"{LINE} rung=0", ["rung=0", "of early exits the last one"]),
        ({"model_type": "gpt2"}, LINE, ["run=model is no model of this project", "'gpt2'"]),
        ({}, f"{LINE} opset=20", ["opset=20 is for format=onnx"]),
        ({}, LINE.replace("=out", "=a.csv"), ["output=a.csv", "is a file"]),
        ({}, LINE.replace("=out", "=glue"), ["output=glue holds other files"]),
        ({}, LINE.replace("run=model", "run=enc"), ["run=enc is no model of this project", "'bert'"]),
    ],
)
def test_mistakes(place: Place, settings: dict[str, Any], line: str, pieces: list[str]) -> None:
    config = {"model_type": "sharcs", "widths": ["0.25", "1"], "split_layer": 1, "encoder": ENCODER} | settings
    place.write("model/config.json", json.dumps({key: value for key, value in config.items() if value is not None}))
    place.write("model/training.json", json.dumps(RECORD))
    place.write("model/model.safetensors", (place.path / "enc/model.safetensors").read_bytes())
    place.refuse(line, *pieces, command="export")
