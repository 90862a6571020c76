"""A user's own files, from the command's config to the run directory."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.analysis.comparison.runs import read_run
from sharcs_pl.config import EvaluateConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.synthetic import graded_examples
from sharcs_pl.evaluate import run as evaluate
from tests.commands import run_line
from tests.conftest import TINY, train_run
from tests.data.formats import NASTY, SUFFIXES, write_rows

# The longest is beyond what readers of csv files take without being told.
STRANGE = [*(text for text in NASTY.values() if len(text) < 100_000), "الحساء كان لذيذا", "x" * 10_000]
OPTIONS = [text for text in TINY if not text.startswith(("task.", "encoder."))]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def fit(directory: Path, *overrides: str) -> dict[str, Any]:
    return train_run(directory, *OPTIONS, "task=custom", "encoder=custom", "task.max_length=24", *overrides)


def test_the_same_data_in_every_format_gives_the_same_metrics_and_texts(tmp_path: Path, encoder: Path) -> None:
    made = graded_examples("train", size=60, seed=2)
    texts = [text for (text,) in made.texts] + STRANGE
    labels = [["no", "yes"][int(y)] for y in made.labels] + ["yes"] * len(STRANGE)
    found = {}
    some = [("no", "yes")[i % 2] for i in range(len(STRANGE))]
    for kind in (*SUFFIXES, ".tsv.gz"):
        odd = {"delimiter": ";", "encoding": "utf-16"} if kind == ".tsv.gz" else {}
        write_rows(tmp_path / f"all{kind}", {"review": texts, "stars": labels}, **odd)
        write_rows(tmp_path / f"dev{kind}", {"review": STRANGE, "stars": some}, **odd)
        directory = tmp_path / f"run_{kind}"
        with pytest.warns(UserWarning, match="dev texts are also in train"):
            metrics = fit(
                directory, f"task.train={tmp_path}/all{kind}", f"task.dev={tmp_path}/dev{kind}", "task.text=review",
                "task.label=stars", f"encoder.pretrained={encoder}",
            )  # fmt: skip
        assert [row["review"] for row in rows(directory / "predictions.tsv")] == STRANGE
        found[kind] = metrics, (directory / "predictions.tsv").read_bytes(), (directory / "metrics.csv").read_bytes()
    assert all(result == found[".csv"] for result in found.values())


def test_three_rows_are_trained_on_and_what_they_cannot_tell_is_said_once(tmp_path: Path, encoder: Path) -> None:
    texts = [text for (text,) in graded_examples("train", size=3, seed=2).texts]
    for name, labels, metrics, piece in (
        ("classes", ["attack", "benign", "attack"], "f1,matthews,macro_f1", r"dev has none of class benign \(1 row\)"),
        ("scores", [0.1, 0.5, 0.9], "pearson,spearman", "1 row of dev has no correlation"),
    ):
        path = write_rows(tmp_path / f"{name}.csv", {"review": texts, "y": labels})
        with pytest.warns(DataWarning) as said:
            metrics = fit(
                tmp_path / name, f"task.train={path}", "task.dev=0.3", "task.text=review", "task.label=y",
                f"encoder.pretrained={encoder}", f"task.metrics=[{metrics}]",
            )  # fmt: skip
        (warning,) = said
        assert str(warning.message).startswith("few rows: 2 rows to train on and 1 row to evaluate on; ")
        assert re.search(piece, str(warning.message))
        assert -1 <= metrics["routed"]["value"] <= 1
        assert len(rows(tmp_path / name / "predictions.tsv")) == 1


def test_the_class_that_f1_is_about_is_chosen_and_named_everywhere(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = graded_examples("train", size=60, seed=2)
    texts, labels = [text for (text,) in made.texts], [("attack", "benign")[int(y)] for y in made.labels]
    path = write_rows(tmp_path / "a.csv", {"review": texts, "y": labels})
    own = ("task.dev=0.3", "task.text=review", "task.label=y", "task.metrics=[f1]", f"encoder.pretrained={encoder}")
    found = {}
    for name, positive in (("second", ()), ("chosen", ("task.positive=attack",))):
        metrics = fit(tmp_path / name, f"task.train={path}", *own, *positive)
        shown = capsys.readouterr().out
        told = metrics["positive"]
        found[name] = told
        assert f"f1 is that of {told}" in shown
        assert ("task.positive=attack makes it that of attack" in shown) == (name == "second")
        assert f"custom: f1 of {told} and cost" in shown
        assert json.loads((tmp_path / name / "metrics.json").read_text()) == metrics
        assert f"| f1 of {told} |" in (tmp_path / name / "model/README.md").read_text()
        assert read_run(tmp_path / name).metric_name == f"f1 of {told}"
        again = evaluate(EvaluateConfig(run=str(tmp_path / name)))
        assert again is not None
        assert (again["routed"], again["positive"]) == (metrics["routed"], told)
        table = [(row["label"], row["prediction"]) for row in rows(tmp_path / name / "predictions.tsv")]
        hits = sum(label == answer == told for label, answer in table)
        named = sum((label == told) + (answer == told) for label, answer in table)
        assert metrics["routed"]["value"] == pytest.approx(2 * hits / max(1, named))
    assert found == {"second": "benign", "chosen": "attack"}
    with pytest.raises(ValueError, match=r"compare=.*second predicts attack, benign, run= benign, attack"):
        evaluate(EvaluateConfig(run=str(tmp_path / "chosen"), compare=str(tmp_path / "second")))


def test_a_test_file_with_an_empty_label_column_is_predicted(tmp_path: Path, encoder: Path) -> None:
    made = graded_examples("train", size=60, seed=2)
    texts, labels = [text for (text,) in made.texts], [float(y) for y in made.labels]
    path = write_rows(tmp_path / "a.csv", {"review": texts, "y": labels})
    with pytest.warns(DataWarning, match=r"the whole numbers 0\.0, 1\.0 are read as the classes 0, 1"):
        fit(tmp_path / "run", f"task.train={path}", "task.dev=0.3", "task.text=review", "task.label=y",
            f"encoder.pretrained={encoder}")  # fmt: skip
    new = ["a new text", "another", "the last one"]
    test = write_rows(tmp_path / "test.csv", {"review": new, "y": ["", "", ""]})
    config = EvaluateConfig(run=str(tmp_path / "run"), split="test")
    config.task.test = str(test)
    assert evaluate(config) is None
    answers = rows(tmp_path / "run/evaluation/test/predictions.tsv")
    assert [row["label"] for row in answers] == ["", "", ""]
    assert {row["prediction"] for row in answers} <= {"0", "1"}
    write_rows(test, {"review": new, "y": ["1", "0.0", "1.0"]})
    assert evaluate(config) is not None
    assert [row["label"] for row in rows(tmp_path / "run/evaluation/test/predictions.tsv")] == ["1", "0", "1"]
    write_rows(test, {"review": new, "y": ["1", "", ""]})
    with pytest.raises(ValueError, match=r"^test\.csv, line 3: no label, and other rows have one"):
        evaluate(config)


def test_a_saved_task_is_found_by_its_name(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = graded_examples("train", size=60, seed=2)
    texts, labels = [text for (text,) in made.texts], [int(y) for y in made.labels]
    write_rows(tmp_path / "a.csv", {"q": texts, "a": texts, "y": labels})
    monkeypatch.chdir(tmp_path)
    first = fit(
        tmp_path / "one", "task.train=a.csv", "task.dev=0.2", "task.text=[q,a]", "task.label=y", "task.name=pairs",
        "task.save_as=pairs", f"encoder.pretrained={encoder}",
    )  # fmt: skip
    assert "task=pairs" in capsys.readouterr().err
    assert json.loads((tmp_path / "one/model/config.json").read_text())["id2label"] == {"0": "0", "1": "1"}
    words = ["sharcs_pl.train", *OPTIONS, "task=pairs", "encoder=custom", "task.max_length=24"]
    done = run_line([*words, f"encoder.pretrained={encoder}", "hydra.run.dir=two"], cwd=tmp_path, kind="loaded")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "two/metrics.json").read_text()) == first


@pytest.mark.painted
def test_a_dollar_in_the_data_is_a_dollar(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In classes, columns and file names: trained, saved as a task, evaluated and predicted; never filled in."""
    from sharcs_pl import calibrate, evaluate, predict
    from sharcs_pl.config import COMMAND_SCHEMAS
    from sharcs_pl.config.command_line import read_command

    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    texts = [text for (text,) in graded_examples("train", size=60, seed=2).texts]
    classes = ["${oc.env:SECRET}", "???", "${a}"]
    write_rows(Path("${a}.csv"), {"${text}": texts, "${": [classes[i % 3] for i in range(60)]})
    typed = [r"task.train='\${a}.csv'", "task.dev=0.4", r"task.text='\${text}'", r"task.label='\${'"]
    metrics = fit(tmp_path / "run", *typed, "task.save_as=dollars", f"encoder.pretrained={encoder}")
    saved = Path("conf/task/dollars.yaml").read_text()
    assert "hunter2" not in saved
    words = ["sharcs_pl.train", *OPTIONS, "task=dollars", "encoder=custom", "task.max_length=24"]
    done = run_line([*words, f"encoder.pretrained={encoder}", "hydra.run.dir=two"], cwd=tmp_path, kind="loaded")
    assert done.returncode == 0, done.stderr
    again = json.loads(Path("two/metrics.json").read_text())
    assert {key: again[key] for key in ("routed", "rungs")} == {key: metrics[key] for key in ("routed", "rungs")}
    for source in ("run", "run/model", "run/checkpoints/best.ckpt"):
        found = evaluate.run(read_command("evaluate", COMMAND_SCHEMAS["evaluate"], [f"run={source}", "output=out"]))
        assert found is not None
        assert found["routed"] == metrics["routed"]
    calibrate.run(read_command("calibrate", COMMAND_SCHEMAS["calibrate"], ["run=run", "budget=0.9"]))
    given = ["run=run", r"input='\${a}.csv'", r"output='\${b}.jsonl'", r"text='\${text}'", "overwrite=true"]
    predict.run(read_command("predict", COMMAND_SCHEMAS["predict"], given))
    answers = [json.loads(line) for line in Path("${b}.jsonl").read_text().splitlines()]
    assert {answer["label"] for answer in answers} <= set(classes)
    assert not [path for path in tmp_path.rglob("*.*s*") if path.is_file() and b"hunter2" in path.read_bytes()]


SMALL_FILES = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
runpy.run_module("sharcs_pl.train", run_name="__main__", alter_sys=True)
"""


def test_a_disk_that_fills_up_in_mid_run_ends_in_one_line_and_whole_files(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the first checkpoint does not fit."""
    done = run_line(["-c", SMALL_FILES, *TINY, "hydra.run.dir=run"], cwd=tmp_path, kind="loaded")
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".part")]
    assert not [name for name in left if name.startswith("checkpoints/")]
