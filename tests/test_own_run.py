"""A user's own files, from the command's config to the run directory."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.data.synthetic import graded_examples
from sharcs_pl.rundir import run_config
from sharcs_pl.train import train
from tests.conftest import TINY, compose_config
from tests.data.formats import NASTY, SUFFIXES, write_rows

# The longest is beyond what readers of csv files take without being told.
STRANGE = [*(text for text in NASTY.values() if len(text) < 100_000), "الحساء كان لذيذا", "x" * 10_000]
OPTIONS = [text for text in TINY if not text.startswith(("task.", "encoder."))]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def fit(directory: Path, *overrides: str) -> dict[str, Any]:
    cfg = compose_config(*OPTIONS, "task=own", "encoder=custom", "task.max_length=24", *overrides)
    return train(run_config(cfg), directory, cfg)


def test_the_same_data_in_every_format_gives_the_same_metrics_and_texts(tmp_path: Path, encoder: Path) -> None:
    made = graded_examples("train", size=60, seed=2)
    texts = [text for (text,) in made.texts] + STRANGE
    labels = [["no", "yes"][int(y)] for y in made.labels] + ["yes"] * len(STRANGE)
    found = {}
    some = [("no", "yes")[i % 2] for i in range(len(STRANGE))]
    for kind in SUFFIXES:
        write_rows(tmp_path / f"all{kind}", {"review": texts, "stars": labels})
        write_rows(tmp_path / f"dev{kind}", {"review": STRANGE, "stars": some})
        directory = tmp_path / f"run_{kind}"
        with pytest.warns(UserWarning, match="dev texts are also in train"):
            metrics = fit(
                directory, f"task.train={tmp_path}/all{kind}", f"task.dev={tmp_path}/dev{kind}", "task.text=review",
                "task.label=stars", f"encoder.pretrained={encoder}",
            )  # fmt: skip
        assert [row["review"] for row in rows(directory / "predictions.tsv")] == STRANGE
        found[kind] = metrics, (directory / "predictions.tsv").read_bytes(), (directory / "metrics.csv").read_bytes()
    assert all(result == found[".csv"] for result in found.values())


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
    assert compose_config("task=own", "encoder=minilm").trainer.max_epochs == 6
    assert (tmp_path / "conf/recipe/pairs_minilm.yaml").exists()  # what task=own gets with that encoder
    assert json.loads((tmp_path / "one/model/config.json").read_text())["id2label"] == {"0": "0", "1": "1"}
    words = [sys.executable, "-m", "sharcs_pl.train", *OPTIONS, "task=pairs", "encoder=custom", "task.max_length=24"]
    done = subprocess.run(
        [*words, f"encoder.pretrained={encoder}", "hydra.run.dir=two"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "two/metrics.json").read_text()) == first


def test_a_dollar_in_the_data_is_a_dollar(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In classes, columns and file names: trained, saved as a task, evaluated and predicted; never filled in."""
    from sharcs_pl import calibrate, evaluate, predict
    from sharcs_pl.commandline import read_command
    from sharcs_pl.config import COMMAND_SCHEMAS

    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    texts = [text for (text,) in graded_examples("train", size=60, seed=2).texts]
    classes = ["${oc.env:SECRET}", "???", "${a}"]
    write_rows(Path("${a}.csv"), {"${text}": texts, "${": [classes[i % 3] for i in range(60)]})
    typed = [r"task.train='\${a}.csv'", "task.dev=0.4", r"task.text='\${text}'", r"task.label='\${'"]
    metrics = fit(tmp_path / "run", *typed, "task.save_as=dollars", f"encoder.pretrained={encoder}")
    saved = Path("conf/task/dollars.yaml").read_text()
    assert "hunter2" not in saved
    words = [sys.executable, "-m", "sharcs_pl.train", *OPTIONS, "task=dollars", "encoder=custom", "task.max_length=24"]
    done = subprocess.run(
        [*words, f"encoder.pretrained={encoder}", "hydra.run.dir=two"], capture_output=True, text=True
    )
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


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


def test_a_disk_that_fills_up_in_mid_run_ends_in_one_line_and_whole_files(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the first checkpoint does not fit."""
    words = [sys.executable, "-m", "sharcs_pl.train", *TINY, "hydra.run.dir=run"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, preexec_fn=_small_files)
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".part")]
    assert not [name for name in left if name.startswith("checkpoints/")]
