"""The whole job on a tiny config: files, resume, refusals."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sharcs_pl import SharcsForSequenceClassification
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.pipeline import build
from sharcs_pl.train import main
from tests.commands import Kind, run_line
from tests.conftest import TINY, train_run


def run(directory: Path, *overrides: str) -> dict[str, Any]:
    return train_run(directory, *TINY, *overrides)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_dropout_acts_in_training_and_not_in_validation(tmp_path: Path) -> None:
    seen: set[tuple[str, bool]] = set()

    class Modes(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            seen.update(("training", part.training) for part in module.model.modules())

        def on_validation_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            seen.update(("validation", part.training) for part in module.model.modules())

    with pytest.MonkeyPatch.context() as patch:
        original = build.build_callbacks
        patch.setattr(build, "build_callbacks", lambda *args: [*original(*args), Modes()])
        run(tmp_path / "dropout", "encoder.dropout=0.5")
    assert seen == {("training", True), ("validation", False)}
    run(tmp_path / "none", "encoder.dropout=0")
    first, second = weights(tmp_path / "dropout"), weights(tmp_path / "none")
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.painted
def test_a_run_directory_holds_what_the_readme_names(tmp_path: Path) -> None:
    metrics = run(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    expected = {
        ".hydra/config.yaml", "metrics.json", "metrics.csv", "history.parquet", "plan.csv", "predictions.tsv",
        "checkpoints/last.ckpt", "checkpoints/best.ckpt", "model/model.safetensors", "model/config.json",
        "model/tokenizer.json",
    }  # fmt: skip
    assert expected <= names
    assert not [name for name in names if name.endswith(".part")]
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert list(metrics["rungs"][0]) == ["value", "macs", "macs_fraction", "width", "share"]
    assert {"task", "metric", "seed", "versions", "dense_macs", "routed", "oracle", "regret", "router_auc"} <= set(
        metrics
    )
    history = pq.read_table(tmp_path / "history.parquet").to_pydict()
    assert sorted(history["uid"]) == sorted([*range(48)] * 3)
    plan = list(csv.DictReader((tmp_path / "plan.csv").read_text().splitlines()))
    assert [row["routed"] for row in plan] == ["False", "True", "True"]
    assert all(int(row["width_0.25"]) + int(row["width_1"]) == 48 for row in plan)
    rows = list(csv.DictReader((tmp_path / "predictions.tsv").read_text().splitlines(), delimiter="\t"))
    assert [int(row["uid"]) for row in rows] == list(range(24))
    right = sum(row["label"] == row["prediction"] for row in rows) / 24
    assert right == pytest.approx(metrics["routed"]["value"])


def test_the_saved_model_gives_the_table_again(tiny_run: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sharcs_pl.data.synthetic import graded_examples

    model = AutoModelForSequenceClassification.from_pretrained(tiny_run / "model")
    assert isinstance(model, SharcsForSequenceClassification)
    tokenizer = AutoTokenizer.from_pretrained(tiny_run / "model")
    texts = [text for (text,) in graded_examples("validation", size=24, seed=1).texts]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    out = model.eval()(batch["input_ids"], batch["attention_mask"])
    rows = list(csv.DictReader((tiny_run / "predictions.tsv").read_text().splitlines(), delimiter="\t"))
    names = model.config.id2label
    assert names is not None
    assert out.rungs.tolist() == [int(row["rung"]) for row in rows]
    assert [names[i] for i in out.logits.argmax(-1).tolist()] == [row["prediction"] for row in rows]


def test_what_the_data_is_like_is_said_by_the_first_process_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train"])
    monkeypatch.setattr("sharcs_pl.train.run_job", lambda: warnings.warn("few rows", DataWarning, stacklevel=1))
    for rank, said in (("1", ""), ("0", "warning: few rows\n")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            main()
        assert capsys.readouterr().err == said


def test_the_same_seed_gives_the_same_metrics(tiny_run: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "again") == json.loads((tiny_run / "metrics.json").read_text())
    assert_same_weights(tmp_path / "again", tiny_run)


def test_a_limit_on_validation_leaves_the_final_table_whole(tmp_path: Path) -> None:
    metrics = train_run(tmp_path / "run", *TINY, "trainer.limit_val_batches=1", "eval_batch_size=8")
    assert len((tmp_path / "run" / "predictions.tsv").read_text().splitlines()) == 24 + 1
    whole = 24 * metrics["routed"]["value"]
    assert whole == pytest.approx(round(whole))
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        seen = [8 * float(row["val/routed"]) for row in csv.DictReader(file)]
    assert seen == pytest.approx([round(x) for x in seen])  # the epochs looked at 8 of the 24


def test_best_is_chosen_after_the_window_only(tmp_path: Path) -> None:
    run(tmp_path, "hardness.window=2")
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 2


def test_a_budget_no_epoch_meets_is_said_and_the_last_weights_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "checkpoint.max_macs_fraction=0.01")
    assert "no routed epoch within checkpoint.max_macs_fraction=0.01" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_dense_trains_the_stock_model_on_as_many_samples_per_step(tiny_run: Path, tmp_path: Path) -> None:
    options = ("method=dense", f"method.match={tiny_run}", "checkpoint.max_macs_fraction=0.5")
    dense = run(tmp_path / "dense", *options)
    assert (tmp_path / "dense" / "checkpoints" / "best.ckpt").exists()  # the budget is of routing, dense has none
    assert [rung["width"] for rung in dense["rungs"]] == [1.0]
    assert dense["routed"]["macs_fraction"] == 1.0
    steps = [
        [int(row["steps"]) for row in csv.DictReader((tmp_path / name / "plan.csv").read_text().splitlines())]
        for name in ("run", "dense")
    ]
    assert steps[0] == steps[1]
    assert steps[0][0] == 3  # 48 samples in steps of two batches of 8


DISTILLED = ("distill=top", "checkpoint.every_n_steps=1", "width.bounds=[[0.5,1],[0,0.5]]")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with dropout and distillation that nothing cut."""
    folder = tmp_path_factory.mktemp("distilled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        run(folder / "run", *DISTILLED)
    return folder / "run"


@pytest.mark.parametrize("stop", [2, 3, 5, 8])
def test_a_run_cut_anywhere_ends_with_the_same_weights(distilled: Path, tmp_path: Path, stop: int) -> None:
    """Dropout on, distillation on, cut within the window (step 2), at its end (3) and in routed epochs."""
    with pytest.raises(Cut):
        _run_cut_at(tmp_path / "cut", stop, *DISTILLED)
    assert torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == stop
    resumed = run(tmp_path / "cut", *DISTILLED, "ckpt_path=last")
    assert_same_weights(distilled, tmp_path / "cut")
    assert resumed == json.loads((distilled / "metrics.json").read_text())
    for name in ("metrics.csv", "plan.csv"):
        assert (distilled / name).read_text() == (tmp_path / "cut" / name).read_text()
    one, other = (pq.read_table(side / "history.parquet") for side in (distilled, tmp_path / "cut"))
    assert one.equals(other)


class Cut(Exception):
    """What ends a run at a chosen step."""


def _run_cut_at(directory: Path, stop: int, *overrides: str) -> None:
    from lightning.pytorch.callbacks import Callback

    from sharcs_pl.pipeline import build

    class Stop(Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == stop:
                raise Cut

    original = build.build_callbacks
    build.build_callbacks = lambda *args: [*original(*args), Stop()]
    try:
        run(directory, *overrides)
    finally:
        build.build_callbacks = original


def test_resuming_before_the_first_checkpoint_starts_afresh(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        _run_cut_at(tmp_path / "cut", 1)
    run(tmp_path / "cut", "ckpt_path=last")
    assert_same_weights(tiny_run, tmp_path / "cut")


def command(*overrides: str, cwd: Path, kind: Kind | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a new Python, or in a fork of a server of `tests.commands`."""
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": root}
    if kind is not None:
        return run_line(["sharcs_pl.train", *overrides], cwd=cwd, env=environment, timeout=300, kind=kind)
    line = [sys.executable, "-m", "sharcs_pl.train", *overrides]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def test_the_command_works_from_another_folder_and_refuses_a_taken_run_directory(tmp_path: Path) -> None:
    done = command(*TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "routed" in done.stdout
    assert "Tip" not in done.stdout + done.stderr
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = command(*TINY, "hydra.run.dir=run", "seed=2", cwd=tmp_path, kind="light")
    assert again.returncode == 2
    assert "another config" in again.stderr
    assert "Traceback" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "override", ["width.multipliers=[0.3,1]", "task=mrpc", "hardness.window=9", "ckpt_path=nowhere"]
)
def test_a_bad_config_ends_in_one_line_and_no_directory(tmp_path: Path, override: str) -> None:
    done = command(*TINY, "hydra.run.dir=run", override, cwd=tmp_path, kind="light")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "run" / ".hydra").exists()


@pytest.mark.slow
def test_a_killed_process_goes_on_bit_for_bit(tmp_path: Path) -> None:
    options = (*TINY, "checkpoint.every_n_steps=2", "trainer.max_epochs=6")
    assert command(*options, "hydra.run.dir=whole", cwd=tmp_path, kind="loaded").returncode == 0
    root = str(Path(__file__).resolve().parent.parent)
    line = [sys.executable, "-m", "sharcs_pl.train", *options, "hydra.run.dir=cut"]
    process = subprocess.Popen(line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root})
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    resumed = command(*options, "hydra.run.dir=cut", "ckpt_path=last", cwd=tmp_path, kind="loaded")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("override", ["ckpt_path=last", "overwrite=true"])
def test_a_second_start_is_refused_while_the_first_trains(tmp_path: Path, override: str) -> None:
    answers: list[subprocess.CompletedProcess[str]] = []

    class StartAgain(Callback):
        def on_train_epoch_start(self, trainer: Any, *args: Any) -> None:
            if trainer.current_epoch == 1:
                answers.append(
                    command(*TINY, f"hydra.run.dir={tmp_path / 'run'}", override, cwd=tmp_path, kind="light")
                )
                with pytest.raises(ValueError, match=f"is in use: process {os.getpid()} on"):  # as from a thread
                    run(tmp_path / "run", override)

    with pytest.MonkeyPatch.context() as patch:
        original = build.build_callbacks
        patch.setattr(build, "build_callbacks", lambda *args: [*original(*args), *([] if answers else [StartAgain()])])
        run(tmp_path / "run")
    (answer,) = answers
    assert answer.returncode == 2, answer.stderr
    assert f"run is in use: process {os.getpid()} on " in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "run/.hydra/run.lock").exists()
    rows = list(csv.DictReader((tmp_path / "run/plan.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]


def test_a_run_whose_process_raised_gives_its_directory_back(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        _run_cut_at(tmp_path / "run", 2)
    assert not (tmp_path / "run/.hydra/run.lock").exists()
    run(tmp_path / "run", "overwrite=true")
    (tmp_path / "run/model/notes.txt").write_text("mine")
    run(tmp_path / "run", "seed=2", "overwrite=true")
    assert (tmp_path / "run/model/notes.txt").read_text() == "mine"
    assert SharcsForSequenceClassification.from_pretrained(tmp_path / "run/model")
