"""A trained model gives its table again, from wherever it is read."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl import bench, calibrate
from sharcs_pl.config import RunConfig
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.spec import Examples
from sharcs_pl.data.synthetic import graded_examples
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs, check_comparable
from sharcs_pl.runs.reordering_inputs import find
from tests.conftest import TINY, compose_config
from tests.fitted import evaluate, fit, own_files


def sources(directory: Path, elsewhere: Path) -> dict[str, Path]:
    """The run, its best checkpoint and its model, in place, and each alone on another path."""
    elsewhere.mkdir()
    best, model = directory / "checkpoints/best.ckpt", directory / "model"
    return {
        "run": directory,
        "checkpoint": best,
        "model": model,
        "moved run": Path(shutil.copytree(directory, elsewhere / "run")),
        "lone checkpoint": Path(shutil.copy(best, elsewhere / "lone.ckpt")),
        "lone model": Path(shutil.copytree(model, elsewhere / "faster")),
    }


@pytest.mark.parametrize("kind", ["graded", "classes", "regression", "bf16 and double"])
def test_every_source_gives_the_table_bit_for_bit(tmp_path: Path, encoder: Path, kind: str) -> None:
    directory = tmp_path / "runs" / "one"
    if kind in ("classes", "regression"):
        options = own_files(tmp_path, lambda y, text: len(text) / 7 if kind == "regression" else f"class {y}")
        expected = fit(directory, *options, f"encoder.pretrained={encoder}", "eval_batch_size=7")
    elif kind == "graded":
        expected = fit(directory, *TINY, "width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.5,1],[0.4,0.5],[0,1]]")
    else:
        expected = fit(directory, *TINY, "trainer.precision=bf16-mixed", "encoder.attn_implementation=eager")
    places = {"task": {"train": f"{tmp_path}/a.csv"}, "encoder": {"pretrained": str(encoder)}}
    for name, source in sources(directory, tmp_path / "elsewhere").items():
        away = places if name.startswith("lone") and kind in ("classes", "regression") else {}
        found = evaluate(source, output=str(tmp_path / "out" / name), **away)
        assert found == expected, name
        answers = (tmp_path / "out" / name / "predictions.tsv").read_bytes()
        assert answers == (directory / "predictions.tsv").read_bytes(), name


def test_a_run_whose_data_has_moved_asks_for_it_and_takes_it(tmp_path: Path, encoder: Path) -> None:
    options = own_files(tmp_path, lambda y, text: y)
    expected = fit(tmp_path / "run", *options, f"encoder.pretrained={encoder}")
    (tmp_path / "a.csv").rename(tmp_path / "moved.csv")
    with pytest.raises(ValueError, match=r"task\.train=.*a\.csv: there is no such file"):
        evaluate(tmp_path / "run")
    assert evaluate(tmp_path / "run", task={"train": str(tmp_path / "moved.csv")}) == expected


def test_what_is_given_away_names_no_place_and_asks_for_what_it_needs(tmp_path: Path, encoder: Path) -> None:
    options = own_files(tmp_path, lambda y, text: y)
    secret = "http://alice:hunter2@tracking"
    logging = ["logger.name=none", f"logger.tracking_uri={secret}"]
    alice = Path(shutil.copytree(encoder, tmp_path / "alice-encoder"))
    expected = fit(tmp_path / "run", *options, *logging, f"encoder.pretrained={alice}")
    given_away = [*(tmp_path / "run" / "model").iterdir(), *(tmp_path / "run" / "checkpoints").iterdir()]
    assert len(given_away) > 8
    for path in given_away:
        for word in (str(tmp_path), "hunter2"):
            assert word.encode() not in path.read_bytes(), path
    kept = json.loads((tmp_path / "run/model/training.json").read_text())
    assert (kept["task"]["dev"], kept["encoder"]["pretrained"]) == (0.3, "./alice-encoder")
    marker = json.loads((tmp_path / "run/.hydra/run.json").read_text())["config"]
    assert (marker["task"]["train"], marker["encoder"]["pretrained"]) == (f"{tmp_path}/a.csv", str(alice))
    assert evaluate(tmp_path / "run" / "model") == expected  # its run directory knows where the texts are
    lone = Path(shutil.copytree(tmp_path / "run" / "model", tmp_path / "elsewhere" / "model"))
    with pytest.raises(ValueError, match=r"does not say where its texts are; give task\.train=<file>"):
        evaluate(lone)
    assert evaluate(lone, task={"train": f"{tmp_path}/a.csv"}) == expected
    shutil.copytree(tmp_path / "run" / ".hydra", tmp_path / "elsewhere" / ".hydra")
    marker["seed"] = 2  # another run's directory tells nothing about this model
    (tmp_path / "elsewhere/.hydra/run.json").write_text(json.dumps({"config": marker}))
    with pytest.raises(ValueError, match=r"give task\.train=<file>"):
        evaluate(lone)
    checkpoint = Path(shutil.copy(tmp_path / "run/checkpoints/best.ckpt", tmp_path / "lone.ckpt"))
    with pytest.raises(ValueError, match=r"encoder\.pretrained=alice-encoder is not a folder"):
        evaluate(checkpoint, task={"train": f"{tmp_path}/a.csv"})


def test_a_model_that_says_where_its_texts_were_is_read_as_before(tmp_path: Path, encoder: Path) -> None:
    """Models saved by earlier versions have a whole record in their folder."""
    expected = fit(tmp_path / "run", *own_files(tmp_path, lambda y, text: y), f"encoder.pretrained={encoder}")
    marker = json.loads((tmp_path / "run/.hydra/run.json").read_text())["config"]
    lone = Path(shutil.copytree(tmp_path / "run/model", tmp_path / "elsewhere/model"))
    (lone / "training.json").unlink()
    (lone / "run.json").write_text(json.dumps(marker))
    assert evaluate(lone) == expected


def test_a_test_file_needs_neither_labels_nor_the_training_data(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run", *own_files(tmp_path, lambda y, text: f"class {y}"), f"encoder.pretrained={encoder}")
    (tmp_path / "a.csv").unlink()
    (tmp_path / "new.csv").write_text('review\nthe soup was tasty\n"the bed, was ""bad"""\n')
    assert evaluate(tmp_path / "run/model", split="test", task={"test": str(tmp_path / "new.csv")}) is None
    with (tmp_path / "run/evaluation/test/predictions.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["review"] for row in rows] == ["the soup was tasty", 'the bed, was "bad"']
    assert {row["label"] for row in rows} == {""}
    assert {row["prediction"] for row in rows} <= {"class 0", "class 1"}
    assert "2 predictions" in capsys.readouterr().out
    with pytest.warns(DataWarning, match=r"\d of 10 test texts were trained on"):
        known = evaluate(tmp_path / "run", split="test", task={"test": str(tmp_path / "t.csv")})
    assert known is not None
    assert sum(rung["share"] for rung in known["rungs"]) == pytest.approx(1)


def test_a_glue_test_split_gives_the_leaderboards_file(tmp_path: Path, encoder: Path) -> None:
    texts = [text for (text,) in graded_examples("train", size=40, seed=1).texts]
    rows = "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("sentence\tlabel\n" + rows)
    (tmp_path / "test.tsv").write_text("index\tsentence\n" + "".join(f"{i}\t{t}\n" for i, t in enumerate(texts)))
    options = [text for text in TINY if not text.startswith(("task.", "encoder."))]
    with pytest.warns(UserWarning, match="sst2"):
        fit(
            tmp_path / "run", *options, "task=sst2", f"task.data_dir={tmp_path}", "encoder=custom",
            f"encoder.pretrained={encoder}", "task.max_length=32",
        )  # fmt: skip
    with pytest.warns(UserWarning, match="1821"):
        evaluate(tmp_path / "run", split="test")
    lines = (tmp_path / "run/submission/SST-2.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert len(lines) == 41
    assert (tmp_path / "run/submission/submission.zip").exists()


def test_two_runs_side_by_side_and_the_audit(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "b", *TINY, "task.split_seed=2", "width.multipliers=[0.5,1]")
    capsys.readouterr()
    evaluate(tiny_run, compare=str(tiny_run / "model"), draws=200, cost={"audit": True})
    shown = capsys.readouterr().out
    comparison = json.loads((tiny_run / "evaluation/validation/comparison.json").read_text())
    assert comparison["value_difference"]["difference"] == 0
    assert "95% interval" in shown
    assert "fvcore" in shown
    with pytest.raises(ValueError, match="differ"):
        evaluate(tiny_run, compare=str(tmp_path / "b"), draws=200)


def on(texts: list[str], labels: list[int], classes: tuple[str, ...] | None = ("bad", "good")) -> EvaluationInputs:
    """A run named x on a validation split."""
    task = replace(GLUE["sst2"], labels=classes)
    examples = Examples([(text,) for text in texts], np.array(labels))
    config: Any = SimpleNamespace(task=SimpleNamespace(split_seed=1))
    return EvaluationInputs("x", None, config, task, {"validation": examples})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (on(["a", "c"], [0, 1]), "compare=x is evaluated on other texts"),
        (on(["b", "a"], [0, 1]), "compare=x is evaluated on other texts"),
        (on(["a", "b"], [0, 0]), "compare=x is evaluated on other labels: 1 of 2 texts .* the first is row 1"),
        (on(["a", "b"], [0, 1], ("good", "bad")), r"compare=x predicts good, bad, run= bad, good; their order counts"),
        (on(["a", "b"], [0, 1], None), "compare=x predicts a score, run= bad, good"),
    ],
    ids=["texts", "order", "labels", "classes", "kind"],
)
def test_runs_on_other_texts_or_labels_are_not_paired(other: EvaluationInputs, words: str) -> None:
    """Before any model is loaded."""
    one = on(["a", "b"], [0, 1])
    check_comparable(one, on(["a", "b"], [0, 1]))
    with pytest.raises(ValueError, match=words):
        check_comparable(one, other)


def test_the_record_is_the_config_and_reads_back(tiny_run: Path) -> None:
    from sharcs_pl.inference.trained import open_trained

    config = open_trained(str(tiny_run)).config
    assert isinstance(config, RunConfig)
    assert config.digest() == run_config(compose_config(*TINY)).digest()


def test_a_foreign_checkpoint_is_not_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        evaluate(tmp_path / "x.ckpt")

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "boom",))

    torch.save({"sharcs": Bomb()}, tmp_path / "y.ckpt")
    with pytest.raises(ValueError, match="no checkpoint that can be read safely"):
        evaluate(tmp_path / "y.ckpt")
    assert not (tmp_path / "boom").exists()


def test_through_the_command_line(tiny_run: Path, tmp_path: Path) -> None:
    """In a Python of its own, so that also what it imports says nothing."""
    words = [sys.executable, "-m", "sharcs_pl", "evaluate", f"run={tiny_run}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "validation split" in done.stdout
    assert done.stderr == ""


def test_a_dev_share_that_a_grown_file_draws_anew_is_told_by_count(tmp_path: Path, encoder: Path) -> None:
    """Also by a checkpoint and by a model's folder that lies alone; the promise on such texts is refused."""
    fit(tmp_path / "run", *own_files(tmp_path, lambda y, text: f"class {y}"), f"encoder.pretrained={encoder}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tmp_path / "run")
    more = graded_examples("train", size=200, seed=9)
    with (tmp_path / "a.csv").open("a", newline="") as file:
        csv.writer(file).writerows([(text, f"class {y}") for (text,), y in zip(more.texts, more.labels, strict=True)])
    for place in sources(tmp_path / "run", tmp_path / "elsewhere").values():
        if place.suffix == ".ckpt" and "elsewhere" in place.parts:
            continue  # a checkpoint alone knows no texts
        # A model that lies alone does not say where its texts were.
        data = {"train": str(tmp_path / "a.csv")} if "elsewhere" in place.parts else {}
        with pytest.warns(DataWarning, match=r"^\d+ of \d+ validation texts were trained on: the results look better"):
            evaluate(place, output=str(tmp_path / "out"), task=data)
    options = {"run": str(tmp_path / "run/model"), "max_drop": 0.2, "confidence": 0.5}
    with (
        pytest.warns(DataWarning, match="validation texts were trained on"),
        pytest.raises(ValueError, match=r"max_drop=0.2 cannot be promised: \d+ of the \d+ texts were trained on; give"),
    ):
        calibrate.run(CalibrateConfig(**options))
    with pytest.warns(DataWarning, match="trained on"):
        bench.check(BenchConfig(run=options["run"]))
    with pytest.warns(DataWarning, match="trained on"):
        find(ReorderConfig(run=options["run"], output=str(tmp_path / "order")))


def test_results_replace_nothing_of_the_users(tiny_run: Path, tmp_path: Path) -> None:
    assert tiny_run == tmp_path / "run"
    for name in ("metrics.json", "predictions.tsv", "curve.csv", "figures/buckets.png"):
        out = tmp_path / name.replace("/", "_")
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("the user's")
        with pytest.raises(ValueError, match=rf"output={out}: {out}/{name} is there and was not written by this"):
            evaluate(tmp_path / "run", output=str(out))
        assert [path for path in out.rglob("*") if path.is_file()] == [out / name]
        assert (out / name).read_text() == "the user's"
    with pytest.raises(ValueError, match=r"run/metrics.json is there and was not written"):
        evaluate(tmp_path / "run/model", output=str(tmp_path / "run"))
    first = evaluate(tmp_path / "run", output=str(tmp_path / "new"))
    (tmp_path / "new/mine.txt").write_text("")
    assert evaluate(tmp_path / "run", output=str(tmp_path / "new")) == first
    assert (tmp_path / "new/mine.txt").exists()
    evaluate(tmp_path / "run")
    (tmp_path / "run/evaluation/validation/.sharcs.json").unlink()  # by a version that kept no list
    evaluate(tmp_path / "run")
    (tmp_path / "lone/evaluation/validation").mkdir(parents=True)
    shutil.copytree(tmp_path / "run/model", tmp_path / "lone/model")
    (tmp_path / "lone/evaluation/validation/metrics.json").write_text("the user's")
    with pytest.raises(ValueError, match=r"lone/evaluation/validation/metrics.json is there"):
        evaluate(tmp_path / "lone/model")
