"""A task whose texts have any number of labels, from the user's file through every command."""

from __future__ import annotations

import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, pipeline

import sharcs_pl
from sharcs_pl.bench import check as check_bench
from sharcs_pl.calibrate import run as calibrate
from sharcs_pl.config import EvaluateConfig
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.evaluate import DataPaths
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.evaluate import run as evaluate
from sharcs_pl.export import run as export
from sharcs_pl.predict import run as predict
from sharcs_pl.reorder import run as reorder
from sharcs_pl.runs.evaluation_inputs import prepare
from tests.conftest import TINY, train_run
from tests.data.formats import write_rows

OPTIONS = [text for text in TINY if not text.startswith(("task.", "encoder."))]
LABELS = ("insult", "threat", "toxic")  # in the order of their ids


def made(size: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Texts of six words, three of which give a label each, and their labels; some texts have none."""
    words = sorted(word for word in word_tokenizer().get_vocab() if word.isalpha())[:30]
    rng = random.Random(seed)
    labels = [[name for name in LABELS if rng.random() < 0.35] for _ in range(size)]
    texts = [[words[LABELS.index(name)] for name in names] + rng.choices(words[3:], k=3) for names in labels]
    for text in texts:
        rng.shuffle(text)
    return [" ".join(text) for text in texts], labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``run`` and its ``train.jsonl``, which no test may change."""
    folder = tmp_path_factory.mktemp("several")
    torch.manual_seed(3)
    tokenizer = word_tokenizer()
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = BertConfig(
        vocab_size=len(tokenizer), num_attention_heads=4, max_position_embeddings=24, initializer_range=0.2, **sizes
    )
    BertForSequenceClassification(config).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    texts, labels = made(400, 1)
    write_rows(folder / "train.jsonl", {"text": texts, "kinds": labels})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        train_run(
            folder / "run", *OPTIONS, "task=custom", "encoder=custom", "encoder.dropout=0", "task.max_length=16",
            f"encoder.pretrained={folder}/encoder", f"task.train={folder}/train.jsonl", "task.dev=0.2",
            "task.calibration=0.2", "task.text=text", "task.label=kinds", "task.multi_label=true", "batch_size=16",
            "trainer.max_epochs=12", "optim.lr=3e-3", "distill=top",
        )  # fmt: skip
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_words_that_determine_labels_are_learned_and_written_as_lists(trained: Path) -> None:
    metrics = json.loads((trained / "run" / "metrics.json").read_text())
    assert metrics["metric"] == "micro_f1"
    assert set(metrics["all_metrics"]["validation"]["routed"]) == {"micro_f1", "macro_f1"}
    assert metrics["routed"]["value"] > 0.8
    assert metrics["oracle"]["value"] >= metrics["routed"]["value"] - 0.05
    truth = dict(zip(*made(400, 1), strict=True))
    found = rows(trained / "run" / "predictions.tsv")
    assert len(found) == pytest.approx(80, abs=4)  # each label gives its share
    assert all(json.loads(row["label"]) == truth[row["text"]] for row in found)
    pairs = [(set(json.loads(row["label"])), set(json.loads(row["prediction"]))) for row in found]
    hits = sum(len(true & seen) for true, seen in pairs)
    f1 = 2 * hits / sum(len(true) + len(seen) for true, seen in pairs)
    assert f1 == pytest.approx(metrics["routed"]["value"], abs=1e-6)
    assert all(0.5 <= float(row["confidence"]) <= 1 for row in found)


def test_the_model_says_what_it_is_and_stock_pipelines_give_sigmoids(trained: Path) -> None:
    model = trained / "run" / "model"
    config = json.loads((model / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert [config["id2label"][str(number)] for number in range(3)] == list(LABELS)
    assert sharcs_pl.SharcsForSequenceClassification  # its import makes the architecture known
    classify: Any = pipeline("text-classification", model=str(model), top_k=None)
    text, other = made(2, 9)[0]
    found = {row["label"]: row["score"] for row in classify([text])[0]}
    own = sharcs_pl.RoutedPredictor.from_pretrained(model).predict([text, other])[0]
    assert [found[name] for name in LABELS] == pytest.approx(list(own.probabilities), abs=1e-5)
    assert own.label == tuple(name for name in LABELS if found[name] >= 0.5)
    assert "any number of labels" in (model / "README.md").read_text()


def test_thresholds_are_chosen_kept_and_used_by_every_command(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    texts, labels = made(60, 5)
    test = write_rows(tmp_path / "test.jsonl", {"text": texts, "kinds": labels})
    chosen = calibrate(CalibrateConfig(run=str(run), label_thresholds=True))["label_thresholds"]
    assert list(chosen) == list(LABELS)
    config = run / "model" / "config.json"
    assert json.loads(config.read_text())["label_thresholds"] == list(chosen.values())
    with pytest.raises(ValueError, match="overwrite=true"):
        calibrate(CalibrateConfig(run=str(run), label_thresholds=True))
    card = run / "model" / "README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    with pytest.warns(DataWarning, match="remove it to have the thresholds written into it"):
        calibrate(CalibrateConfig(run=str(run), label_thresholds=True, overwrite=True))
    card.unlink()
    # Thresholds that nobody would choose, so that their use shows.
    strange = {"insult": 0.999999, "threat": 1e-6, "toxic": 0.5}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"label_thresholds": list(strange.values())}))
    task = DataPaths(test=str(test))
    metrics = evaluate(EvaluateConfig(run=str(run), split="test", task=task))
    assert metrics is not None
    written = [json.loads(row["prediction"]) for row in rows(run / "evaluation" / "test" / "predictions.tsv")]
    assert all("threat" in names and "insult" not in names for names in written)
    suspects = tmp_path / "suspects.tsv"
    calibrate(CalibrateConfig(run=str(run), budget=0.8, name="cheap", suspects=str(suspects)))
    sure = [float(row["confidence"]) for row in rows(suspects)]
    assert len(sure) == pytest.approx(64, abs=4)
    assert sure == sorted(sure)
    predict(PredictConfig(run=str(run), input=str(test), output=str(tmp_path / "out.jsonl"), point="trained"))
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["label"] for row in answers] == written
    for row in answers:
        assert row["label"] == [name for name in LABELS if row["probabilities"][name] >= strange[name]]
    predict(PredictConfig(run=str(run), input=str(test), output=str(tmp_path / "out.csv"), point="trained"))
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [json.loads(row["label"]) for row in csv.DictReader(file)] == written


def test_a_budget_and_a_promise_are_set_for_the_router_and_a_cascade(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    texts, labels = made(60, 6)
    test = write_rows(tmp_path / "test.jsonl", {"text": texts, "kinds": labels})
    for rule in ("router", "cascade"):
        calibrate(CalibrateConfig(run=str(run), budget=0.8, rule=rule, name=rule))
        predict(
            PredictConfig(
                run=str(run), input=str(test), output=str(tmp_path / f"{rule}.jsonl"), point=rule, explain=True
            )
        )
    answers = [json.loads(line) for line in (tmp_path / "cascade.jsonl").read_text().splitlines()]
    for row in answers:  # the certainty at the last width is that of the answer's least sure label
        least = min(max(p, 1 - p) for p in row["probabilities"].values())
        assert list(row["certainties"].values())[-1] == pytest.approx(least, abs=2e-6)
    with pytest.raises(ValueError, match="temperatures=true"):
        calibrate(CalibrateConfig(run=str(run), budget=0.8, rule="cascade", name="warm", temperatures=True))


def test_reordering_measures_with_the_thresholds(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    config = run / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"label_thresholds": [1e-12] * 3}))
    record = reorder(ReorderConfig(run=str(run), output=str(tmp_path / "out"), samples=40))
    found = [json.loads(row["label"]) for row in rows(run / "predictions.tsv")]
    count = sum(map(len, found))
    every = 2 * count / (count + 3 * len(found))  # every label is given to each of the texts
    assert record["full"]["value"] == pytest.approx(every)
    assert all(row["after"]["value"] == pytest.approx(every) for row in record["narrow"])
    config.write_text(json.dumps(json.loads(config.read_text()) | {"label_thresholds": [0.5, 0]}))
    with pytest.raises(ValueError, match=r"label_thresholds=.* must be 3 numbers between 0 and 1"):
        predict(PredictConfig(run=str(run), input=str(trained / "train.jsonl"), output=str(tmp_path / "out.jsonl")))


@pytest.mark.parametrize("asked", [{"budget": 0.8}, {"label_thresholds": True, "overwrite": True}], ids=str)
def test_unusable_thresholds_are_told_before_a_calibration_reads_texts(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    config = run / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"label_thresholds": [0.5, 2.0, 0.5]}))
    monkeypatch.setattr("sharcs_pl.pipeline.calibrate.prepare", None)
    with pytest.raises(ValueError, match=r"label_thresholds=\[0.5, 2.0, 0.5\] in config.json must be 3 numbers"):
        calibrate(CalibrateConfig(run=str(run), **asked))


def test_a_benchmark_does_not_compare_with_a_model_of_one_class(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(path: str, *others: Any) -> Any:
        found = prepare(path, *others)
        return found if path == run else replace(found, task=replace(found.task, multi_label=False))

    run, dense = str(trained / "run"), str(trained / "run" / "model")
    monkeypatch.setattr("sharcs_pl.bench.prepare", prepared)
    with pytest.raises(ValueError, match=r"dense=.*: run= gives a text several labels, dense= one class"):
        check_bench(BenchConfig(run=run, dense=dense))


def test_an_exported_graph_and_a_stock_model_keep_the_kind(trained: Path, tmp_path: Path) -> None:
    export(ExportConfig(run=str(trained / "run"), output=str(tmp_path / "stock"), format="transformers"))
    config = json.loads((tmp_path / "stock" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_a_file_without_labels_is_predicted(trained: Path, tmp_path: Path, kind: str) -> None:
    test = write_rows(tmp_path / f"new{kind}", {"text": made(10, 7)[0]})
    config = EvaluateConfig(
        run=str(trained / "run"), split="test", task=DataPaths(test=str(test)), output=str(tmp_path / "out")
    )
    assert evaluate(config) is None
    found = rows(tmp_path / "out" / "predictions.tsv")
    assert [row["label"] for row in found] == [""] * 10
    assert all(isinstance(json.loads(row["prediction"]), list) for row in found)
