"""A point set by the command is what the model routes by afterwards; what cannot be had or promised changes nothing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.numpy import save_file
from transformers import AutoModelForSequenceClassification

from sharcs_pl.analysis.calibration.risk import upper_bound
from sharcs_pl.analysis.calibration.rung_latency import Latency
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.command_line import command_help
from sharcs_pl.core.decision import NEVER
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.pipeline.calibrate import prepare_texts, run
from sharcs_pl.pipeline.calibration import answer
from sharcs_pl.runs.inputs import read_task
from tests.conftest import TINY
from tests.fitted import evaluate, fit, own_files, write_csv
from tests.models.surgery import begins
from tests.place import Place

MORE = "task.dev_size=240"


def config(source: Path, **options: Any) -> CalibrateConfig:
    nested = OmegaConf.merge(OmegaConf.structured(CalibrateConfig), {"run": str(source), **options})
    found = OmegaConf.to_object(nested)
    assert isinstance(found, CalibrateConfig)
    return found


def calibrate(source: Path, **options: Any) -> dict[str, Any]:
    return run(config(source, **options))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rungs, tiny, and texts enough to promise something."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder.parent / "cache"))
        fit(folder, *TINY, MORE)
    return folder


@pytest.fixture
def directory(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def saved(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "model/config.json").read_text())


def spent(directory: Path, point: str) -> float:
    """Mean MACs of dense that the saved model spends at a point, its own rule choosing."""
    model = AutoModelForSequenceClassification.from_pretrained(directory / "model")
    _, views = answer(prepare_texts(config(directory, budget=0.5), open_trained(str(directory))))
    rungs = begins(model, views.predictions.router_logits, model.config.decision(point).starts).numpy()
    return float(views.outcomes.costs[np.arange(len(rungs)), rungs].mean())


def test_a_budget_is_kept_with_the_model_and_is_what_it_then_spends(directory: Path) -> None:
    before = saved(directory)
    record = calibrate(directory, budget=0.8)
    after = saved(directory)
    assert list(after.pop("operating_points")) == ["budget_0.8"]
    assert after == {key: value for key, value in before.items() if key != "operating_points"}
    assert list(saved(directory)) == list(before)
    assert saved(directory)["operating_points"]["budget_0.8"] == record
    assert "budget_0.8" in (directory / "model/README.md").read_text()
    assert record["macs_fraction"] <= 0.8
    assert record["macs_fraction"] == pytest.approx(0.8, abs=0.03)
    assert spent(directory, "budget_0.8") == pytest.approx(record["macs_fraction"])
    assert evaluate(directory, output=str(directory / "out")) == evaluate(directory, output=str(directory / "out"))


def test_a_default_point_is_the_one_in_use(directory: Path) -> None:
    record = calibrate(directory, budget=0.8, default=True, name="fast", output=str(directory / "figures"))
    assert saved(directory)["operating_point"] == "fast"
    found = evaluate(directory, output=str(directory / "out"))
    assert found is not None
    assert found["routed"]["macs_fraction"] == pytest.approx(record["macs_fraction"])
    again = calibrate(directory, budget=0.75)
    assert saved(directory)["operating_point"] == "fast"
    assert list(saved(directory)["operating_points"]) == ["fast", "budget_0.75"]
    assert again["macs_fraction"] < record["macs_fraction"]


def test_the_table_shows_every_point(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(directory, budget=0.8)
    calibrate(directory, max_drop=0.3, confidence=0.9)
    shown = capsys.readouterr().out.split("drop_0.3 is in")[0]
    for name in ("trained", "budget_0.8", "drop_0.3", "oracle", "accuracy", "width 1 (full)"):
        assert name in shown, name


def test_a_promise_is_tested_and_recorded(directory: Path) -> None:
    record = calibrate(directory, max_drop=0.1, confidence=0.9)
    assert record["risk_bound"] <= 0.1
    assert record["tested"] == record["samples"] == 240
    assert record["risk"] <= record["risk_bound"]
    assert record["accuracy_drop"] <= record["risk"] + 1e-9
    assert record["macs_fraction"] < 1


def test_a_name_is_replaced_only_with_overwrite(directory: Path) -> None:
    calibrate(directory, budget=0.8)
    whole = (directory / "model/config.json").read_bytes()
    with pytest.raises(ValueError, match=r"name=budget_0\.8: the model has this point; add overwrite=true"):
        calibrate(directory, budget=0.8)
    assert (directory / "model/config.json").read_bytes() == whole
    calibrate(directory, budget=0.75, name="budget_0.8", overwrite=True)
    assert saved(directory)["operating_points"]["budget_0.8"]["budget"] == 0.75


def test_a_share_held_out_measures_and_does_not_choose(directory: Path) -> None:
    whole = calibrate(directory, budget=0.8, name="whole")
    first = calibrate(directory, budget=0.8, holdout=0.5, name="first")
    second = calibrate(directory, budget=0.8, holdout=0.5, name="second", seed=2)
    assert (first["samples"], first["holdout_samples"]) == (120, 120)
    assert "holdout_samples" not in whole
    assert len({tuple(r["thresholds"]) for r in (whole, first, second)}) == 3
    _, views = answer(prepare_texts(config(directory, budget=0.8), open_trained(str(directory))))
    away = views.select(np.sort(np.random.default_rng(1).permutation(240)[:120])).outcomes
    assert first["macs_fraction"] == pytest.approx(away.at(away.costs, np.array(first["thresholds"])).mean())
    assert first["macs_fraction"] == pytest.approx(0.8, abs=0.1)


def test_texts_that_chose_the_epoch_are_told_wherever_the_point_is(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A promise on the split that chose the best of two epochs is tested for both of them."""
    record = calibrate(directory, max_drop=0.1, confidence=0.9)
    printed = capsys.readouterr()
    assert printed.err.startswith(
        "warning: these texts chose the best of 2 candidates, so max_drop=0.1 is tested with confi"
    )
    assert "task.calibration=0.1" in printed.err
    assert printed.err.count("\n") == 1
    assert (record["chose_epoch"], record["risk_bound_holds"]) == (240, True)
    errors = round(record["risk"] * 240)
    assert record["risk_bound"] == pytest.approx(upper_bound(errors, 240, 0.95))  # half of the level for each epoch
    assert f"{record['risk_bound']:.4f}" in printed.out
    (line,) = (line for line in (directory / "model/README.md").read_text().splitlines() if "drop\\_0.1" in line)
    assert "no promise" not in line
    assert "flatters" in (calibrate(directory, budget=0.8) and capsys.readouterr().err)


def test_one_epoch_was_not_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, override in enumerate(("trainer.max_epochs=2", "checkpoint.save_best=false")):
        fit(tmp_path / str(number), *TINY, MORE, override)
        capsys.readouterr()
        record = calibrate(tmp_path / str(number), max_drop=0.3, confidence=0.9)
        printed = capsys.readouterr()
        assert printed.err == ""
        assert "chose_epoch" not in record
        assert record["risk_bound_holds"]
        assert "no promise" not in printed.out + (tmp_path / str(number) / "model/README.md").read_text()


LADDER = ("width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.5,1],[0.4,0.5],[0,1]]")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rungs that kept 240 texts for calibration."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder.parent / "cache"))
        fit(folder, *TINY, "task.train_size=288", "task.calibration=0.8333", *LADDER)
    return folder


def test_texts_that_were_kept_for_it_are_the_default_and_their_promise_is_clean(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path(shutil.copytree(kept, tmp_path / "run"))
    record = calibrate(directory, max_drop=0.3, confidence=0.9)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert (record["split"], record["samples"], record["tested"]) == ("calibration", 240, 120)
    assert record["risk_bound_holds"]
    assert "chose_epoch" not in record
    card = next(x for x in (directory / "model/README.md").read_text().splitlines() if "drop\\_0.3" in x)
    assert f"| 240 | 240 | {record['risk_bound']:.4f} with confidence 0.9, from 120 texts |" in card
    row = next(x for x in printed.out.splitlines() if x.startswith("│ drop_0.3"))
    assert f"{record['risk_bound']:.4f}" in row
    seen = {text for (text,) in read_task(open_trained(str(directory)).config.task, ("train",), 1)[1]["train"].texts}
    assert len(seen) > 0
    assert not seen & {text for (text,) in prepared_texts(directory)}


def prepared_texts(directory: Path) -> list[tuple[str, ...]]:
    found = prepare_texts(config(directory, budget=0.5), open_trained(str(directory)))
    return found.examples[found.task.validation[0]].texts


def marked(shown: str) -> dict[str, bool]:
    """The points of the table that has bounds, and whether theirs is marked."""
    rows = re.findall(r"^│ (\w+) .* \d\.\d{4}(\*?)\s* │$", shown, re.MULTILINE)
    return {name: bool(mark) for name, mark in rows}


def test_a_bound_after_two_thresholds_were_chosen_on_the_same_texts_is_marked(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path(shutil.copytree(kept, tmp_path / "run"))
    same = calibrate(directory, budget=0.8, name="same")
    assert not same["risk_bound_holds"]
    assert f"{same['risk_bound']:.4f}*" in capsys.readouterr().out
    apart = calibrate(directory, budget=0.8, holdout=0.5, name="apart")
    assert apart["risk_bound_holds"]
    assert marked(capsys.readouterr().out) == {"trained": False, "same": True, "apart": False}
    calibrate(directory, budget=0.8, holdout=0.5, seed=2, name="other")  # half of them chose "apart"
    assert marked(capsys.readouterr().out) == {"trained": False, "same": True, "apart": True, "other": False}
    card = (directory / "model/README.md").read_text()
    lines = {name: next(x for x in card.splitlines() if x.startswith(f"| {name} |")) for name in ("same", "apart")}
    assert "the texts chose the thresholds too" in lines["same"]
    assert "| 120 | 120 |" in lines["apart"]
    assert "no promise" not in lines["apart"]


def test_a_latency_is_a_budget_in_milliseconds(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = calibrate(directory, latency_ms=99999, latency_repeats=3)
    assert "interleaved" in capsys.readouterr().out
    assert 0 < record["latency_ms"] < 99999
    assert "latency_99999ms" in saved(directory)["operating_points"]
    with pytest.raises(ValueError, match=r"latency_ms=1e-09 is out of reach: .* goes from"):
        calibrate(directory, latency_ms=1e-9, latency_repeats=3)


def test_a_latency_between_the_rungs_mixes_them(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends, narrow = np.array([1, 128]), np.full((1, 2), 10.0)
    latency = Latency(ends, *(np.concatenate([narrow, 2 * narrow]) for _ in range(3)), repeats=3)
    monkeypatch.setattr("sharcs_pl.pipeline.calibration.engine_latency", lambda *_: latency)
    record = calibrate(directory, latency_ms=15)
    assert record["latency_ms"] <= 15
    assert record["latency_ms"] == pytest.approx(15, abs=0.5)
    assert record["shares"]["0.25"] == pytest.approx(0.5, abs=0.05)


def test_what_cannot_be_had_or_promised_keeps_nothing(directory: Path) -> None:
    files = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"budget=0\.1 is out of reach: on these texts this model goes from 0\.\d+ to 1"
    ):
        calibrate(directory, budget=0.1)
    with pytest.raises(
        ValueError,
        match=r"max_drop=0\.01 .* from 240 texts: it takes 368 or more even without one error; the texts chose among 2",
    ):
        calibrate(directory, max_drop=0.01)
    with pytest.raises(ValueError, match=r"from 120 texts: it takes 183"):
        calibrate(directory, max_drop=0.02, holdout=0.5)
    with pytest.raises(ValueError, match=r"holdout=0\.001 of 240 texts"):
        calibrate(directory, budget=0.8, holdout=0.001)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == files


def test_three_rungs_are_set_together(tmp_path: Path) -> None:
    ladder = ("width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.5,1],[0.4,0.5],[0,1]]")
    fit(tmp_path / "run", *TINY, MORE, *ladder)
    record = calibrate(tmp_path / "run", budget=0.8)
    assert len(record["thresholds"]) == 2
    assert record["macs_fraction"] <= 0.8
    assert spent(tmp_path / "run", "budget_0.8") == pytest.approx(record["macs_fraction"])
    promised = calibrate(tmp_path / "run", max_drop=0.2, confidence=0.8)
    assert promised["tested"] == 120
    assert promised["risk_bound"] <= 0.2


def test_a_regression_has_a_budget_and_no_promise(tmp_path: Path, encoder: Path) -> None:
    options = own_files(tmp_path, lambda y, text: len(text) / 7)
    fit(tmp_path / "run", *options, f"encoder.pretrained={encoder}")
    assert calibrate(tmp_path / "run", budget=0.8)["metric"] == "pearson"
    with pytest.raises(
        ValueError, match=r"max_drop=0\.1 is about answers that are right or wrong, and custom is a regr"
    ):
        calibrate(tmp_path / "run", max_drop=0.1)


def test_texts_of_ones_own(tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of which some texts are in the split that chose the epoch is found out by the run's predictions."""
    fit(tmp_path / "run", *own_files(tmp_path, lambda y, text: f"class {y}"), f"encoder.pretrained={encoder}")
    with (tmp_path / "run/predictions.tsv").open(newline="") as file:
        known = {row["review"] for row in csv.DictReader(file, delimiter="\t")}
    with (tmp_path / "t.csv").open(newline="") as file:
        shared = sum(row["review"] in known for row in csv.DictReader(file))
    assert 0 < shared < 10
    capsys.readouterr()
    with pytest.warns(DataWarning, match=r"\d of 10 validation texts were trained on"):
        record = calibrate(tmp_path / "run", budget=0.9, task={"dev": str(tmp_path / "t.csv")})
    assert (record["samples"], record["chose_epoch"]) == (10, shared)
    assert f"warning: {shared} of these 10 texts chose the best of 2 candidates" in capsys.readouterr().err
    write_csv(tmp_path / "new.csv", [f"never seen {i}" for i in range(6)], [f"class {i % 2}" for i in range(6)])
    record = calibrate(tmp_path / "run", budget=0.9, name="new", task={"dev": str(tmp_path / "new.csv")})
    assert "chose_epoch" not in record
    assert capsys.readouterr().err == ""


def test_a_file_kept_for_calibration_is_read_where_it_is_now(tmp_path: Path, encoder: Path) -> None:
    write_csv(tmp_path / "c.csv", [f"kept {i}" for i in range(6)], [f"class {i % 2}" for i in range(6)])
    options = own_files(tmp_path, lambda y, text: f"class {y}")
    fit(tmp_path / "run", *options, f"encoder.pretrained={encoder}", f"task.calibration={tmp_path}/c.csv")
    record = calibrate(tmp_path / "run", budget=0.9)
    assert (record["split"], record["samples"]) == ("calibration", 6)
    assert "chose_epoch" not in record
    moved = shutil.move(tmp_path / "c.csv", tmp_path / "moved.csv")
    with pytest.raises(ValueError, match=r"task\.calibration=.*no such file; give task\.calibration=<where it is now>"):
        calibrate(tmp_path / "run", budget=0.9, name="again")
    assert calibrate(tmp_path / "run", budget=0.9, overwrite=True, task={"calibration": str(moved)})["samples"] == 6


def test_a_router_is_read_in_float32_whatever_the_run_was_trained_in(tmp_path: Path) -> None:
    fit(tmp_path / "run", *TINY, "trainer.precision=bf16-mixed")
    model, views = answer(prepare_texts(config(tmp_path / "run", budget=0.5), open_trained(str(tmp_path / "run"))))
    assert model.dtype == torch.float32
    assert not (views.predictions.router_logits == views.predictions.router_logits.bfloat16().float()).all()


def test_a_threshold_that_is_never_reached_is_written_as_it_is() -> None:
    assert json.loads(json.dumps(NEVER)) == float(np.float32(NEVER))


def test_a_promise_names_what_it_bounds_in_the_help() -> None:
    text = " ".join(command_help("calibrate", CalibrateConfig).split())
    assert "It bounds the drop in accuracy of classifiers only" in text


RECORD = {
    "task": {"name": "own", "dev": "b.csv", "text": "review", "label": "stars", "labels": ["bad", "good"]},
    "encoder": {"name": "custom", "pretrained": "enc"},
    "method": {"name": "sharcs"},
}


def model_folder(where: Place, **changes: Any) -> None:
    """A folder that looks like a routed model, over eight labelled texts in b.csv."""
    where.write("model/config.json", json.dumps({"model_type": "sharcs", "widths": ["0.25", "1"]} | changes))
    where.write("model/training.json", json.dumps(RECORD))
    save_file({"weight": np.zeros(8, np.float32)}, where.path / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("run=model", ["missing", "give one of budget=0.6, latency_ms=20, max_drop=0.01 and label_thresholds=true"]),
        ("run=model budget=0.5 max_drop=0.1", ["budget and max_drop exclude each other"]),
        ("run=model budget=50", ["budget=50", "fraction"]),
        ("run=model budget=0", ["budget=0"]),
        ("run=model budget=half", ["budget=half", "a number"]),
        ("run=model latency_ms=-1", ["latency_ms=-1", "milliseconds"]),
        ("run=model max_drop=1", ["max_drop=1", "between 0 and 1"]),
        ("run=model max_drop=0.1 confidence=95", ["confidence=95", "between 0 and 1"]),
        ("run=model budget=0.5 holdout=1", ["holdout=1", "between 0 and 1"]),
        ("run=model budget=0.5 name=trained", ["name=trained", "from training"]),
        ("run=model budget=0.5 name=a/b", ["name=a/b", "letters"]),
        ("run=model budget=0.5 latency_repeats=1", ["latency_repeats=1"]),
        ("run=model budget=0.5 task.test=c.csv", ["task.test=c.csv", "task.dev"]),
        ("run=model budget=0.5 task.dev=b.csv task.calibration=b.csv", ["task.dev and task.calibration exclude"]),
        ("run=model budget=0.5 nmae=x", ["nmae", "did you mean name?"]),
        ("run=model budget=0.5 backend=tflite", ["backend=tflite is unknown", "torch, openvino, onnxruntime"]),
        ("run=model budget=0.5 precision=int8", ["precision=int8: torch computes in float32 or bfloat16"]),
        ("budget=0.5", ["run is missing"]),
        ("run=gone budget=0.5", ["run=gone does not exist", "model/"]),
        ("run=enc budget=0.5", ["enc has no training.json"]),
        ("run=model budget=0.5 name=there", ["name=there", "overwrite=true"]),
        ("run=model max_drop=0.1 confidence=0.9", ["from 8 texts", "36 or more"]),
        ("run=model max_drop=0.5 confidence=0.98 holdout=0.5", ["from 4 texts", "8 or more"]),
        ("run=model max_drop=0.1 task.dev=gone.csv", ["task.dev=gone.csv", "no such file"]),
    ],
)
def test_mistakes(place: Place, line: str, pieces: list[str]) -> None:
    model_folder(place, operating_points={"there": {"thresholds": [0.0]}})
    place.refuse(line, *pieces, command="calibrate")


def test_a_model_of_one_width_has_nothing_to_set(place: Place) -> None:
    model_folder(place, widths=["1"])
    place.refuse("run=model budget=0.5", "run=model", "one width", command="calibrate")


def test_a_promise_for_a_regression_is_refused_before_anything_is_loaded(place: Place) -> None:
    model_folder(place)
    place.write("b.csv", "review,stars\n" + "".join(f"text {i},{i}.5\n" for i in range(8)))
    task = {**RECORD["task"], "labels": None, "label_range": [0.0, 8.0]}
    place.write("model/training.json", json.dumps({**RECORD, "task": task}))
    place.refuse("run=model max_drop=0.3", "max_drop=0.3", "regression", "budget=", command="calibrate")


def test_a_checkpoint_is_told_the_folder(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a checkpoint, in which no point can be kept; give run=.*/run/model"):
        calibrate(directory / "checkpoints/best.ckpt", budget=0.8)
    lone = shutil.copy(directory / "checkpoints/best.ckpt", tmp_path / "lone.ckpt")
    with pytest.raises(ValueError, match=r"lone\.ckpt is a checkpoint.*give the model/ folder"):
        calibrate(Path(lone), budget=0.8)


def test_help_and_the_config_answer_without_torch(place: Place) -> None:
    for flags in ("--help", "budget=0.5 --cfg job"):
        answer = place.type(flags, "calibrate")
        assert (answer.code, answer.err) == (0, "")
        assert max(map(len, answer.out.splitlines())) <= 120
    assert not place.mark.exists()


def test_what_the_user_made_stays(directory: Path) -> None:
    (directory / "calibration").mkdir()
    calibrate(directory, budget=0.8, name="one")
    card = (directory / "model/README.md").read_text()
    assert "one" in card
    (directory / "model/README.md").write_text(card + "\nMy own words.\n")
    with pytest.warns(DataWarning, match=r"README.md was changed by hand and stays as it is"):
        calibrate(directory, budget=0.9, name="two")
    assert (directory / "model/README.md").read_text() == card + "\nMy own words.\n"
    assert set(saved(directory)["operating_points"]) == {"one", "two"}
    out = directory / "mine"
    out.mkdir()
    (out / "three.png").write_text("the user's")
    before = saved(directory)
    with pytest.raises(ValueError, match=r"three.png is there and was not written by this command"):
        calibrate(directory, budget=0.95, name="three", output=str(out))
    assert saved(directory) == before


@pytest.mark.parametrize("rule", ["cascade", "router+cascade", "best"])
def test_every_rule_is_set_for_a_budget_and_is_what_the_model_then_does(directory: Path, rule: str) -> None:
    record = calibrate(directory, rule=rule, budget=0.8, name="mine", default=True)
    assert record["macs_fraction"] <= 0.8
    assert rule in (record.get("rule", "router"), "best")
    found = evaluate(directory, output=str(directory / "out"))
    assert found is not None
    assert found["routed"]["macs_fraction"] == pytest.approx(record["macs_fraction"])
    assert found["routed"]["value"] == pytest.approx(record["value"])
    assert "mine" in (directory / "model/README.md").read_text()
    promise = calibrate(directory, rule=rule, max_drop=0.25, confidence=0.8, name="promised")
    assert promise["risk"] <= promise["risk_bound"] <= 0.25
    assert promise["tested"] == (240 if rule == "cascade" else 120)


def test_temperatures_are_fitted_kept_and_used(directory: Path) -> None:
    record = calibrate(directory, rule="cascade", budget=0.8, name="warm", temperatures=True, default=True)
    assert len(record["temperatures"]) == len(saved(directory)["widths"])
    found = evaluate(directory, output=str(directory / "out"))
    assert found is not None
    assert found["routed"]["value"] == pytest.approx(record["value"])
    promise = calibrate(directory, rule="cascade", max_drop=0.25, confidence=0.8, name="warm2", temperatures=True)
    assert (promise["tested"], promise["risk_bound"] <= 0.25) == (120, True)
    with pytest.raises(ValueError, match="temperatures=true is about the answers of a cascade; give rule=cascade"):
        calibrate(directory, budget=0.8, name="cold", temperatures=True)


def test_a_cascade_has_the_certainty_and_the_answers_asked_for_or_those_of_training(directory: Path) -> None:
    asked = calibrate(directory, rule="cascade", budget=0.8, name="asked", certainty="margin", average=True)
    assert (asked["certainty"], asked["average"]) == ("margin", True)
    (directory / "model/README.md").unlink()  # else it warns that the card is another model's
    config = directory / "model/config.json"
    config.write_text(json.dumps(saved(directory) | {"rule": "cascade", "certainty": "entropy"}))
    assert calibrate(directory, rule="cascade", budget=0.8, name="trained_so")["certainty"] == "entropy"
    for given in ({"certainty": "margin"}, {"average": False}):
        with pytest.raises(ValueError, match=r"^(certainty=margin|average=false) is about the answers of a cascade"):
            calibrate(directory, rule="router", budget=0.8, name="cold", **given)


def test_a_cascade_is_timed_from_its_first_width_to_its_last(directory: Path) -> None:
    record = calibrate(directory, rule="cascade", latency_ms=1e3, latency_repeats=3, name="slow")
    assert record["rule"] == "cascade"
    assert record["latency_ms"] > 0


def test_a_model_without_a_router_cascades(tmp_path: Path) -> None:
    fit(tmp_path / "run", *TINY, MORE, "method=slimmable")
    record = calibrate(tmp_path / "run", budget=0.9)
    assert record["rule"] == "cascade"
    with pytest.raises(ValueError, match="rule=router needs a router, which this model lacks; use rule=cascade"):
        calibrate(tmp_path / "run", rule="router", budget=0.8)


def test_the_least_sure_texts_come_first_in_the_list_of_suspects(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "suspects.tsv"
    calibrate(directory, rule="cascade", budget=0.8, suspects=str(path))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    sure = [float(row["confidence"]) for row in rows]
    assert sure == sorted(sure)
    assert len({row["uid"] for row in rows}) == 240
    with (directory / "predictions.tsv").open(newline="") as file:
        labels = {row["uid"]: row["label"] for row in csv.DictReader(file, delimiter="\t")}
    assert {row["uid"]: row["label"] for row in rows} == labels
    for value, piece in (
        (str(path), "is there already"),
        (str(tmp_path / "a.csv"), r"must end with \.tsv"),
        (str(tmp_path / "gone" / "a.tsv"), "there is no folder"),
    ):
        with pytest.raises(ValueError, match=piece):
            calibrate(directory, rule="cascade", budget=0.8, name="again", suspects=value)
