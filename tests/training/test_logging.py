from __future__ import annotations

import csv
import importlib.util
import os
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

import sharcs_pl.config.training as config_module
from sharcs_pl.config import check_logger, conf_dir
from sharcs_pl.pipeline import build
from sharcs_pl.training.logging import LOGGERS, LoggerSettings, RunLogger, final_values, run_name
from tests.conftest import TINY, train_run

INSTALLED = [name for name in LOGGERS if importlib.util.find_spec(name) is not None]
OFFLINE = {"wandb": ("logger.offline=true",)}
METRICS: dict[str, Any] = {
    "metric": "accuracy",
    "routed": {"value": 0.75, "macs_fraction": 0.5},
    "random": {"value": 0.6, "macs_fraction": 0.55},
    "oracle": {"value": 0.9, "macs_fraction": 0.4},
    "regret": 0.15,
    "router_auc": None,
    "all_metrics": {
        "validation": {"routed": {"accuracy": 0.75, "f1": 0.1}, "width 1/3": {"accuracy": 0.7, "f1": 0.2}},
        "other": {"routed": {"accuracy": 0.2}},
    },
}


pytestmark = pytest.mark.painted  # loggers read the figures


def needs(name: str) -> Any:
    return pytest.mark.skipif(name not in INSTALLED, reason=f"needs the extra [{name}]")


def run(directory: Path, name: str, *overrides: str) -> dict[str, Any]:
    options = (f"logger={name}", *OFFLINE.get(name, ()), "trainer.log_every_n_steps=1", *overrides)
    return train_run(directory, *TINY, *options)


class Cut(Exception):
    """What ends a run at a chosen step."""


def run_cut_at(monkeypatch: pytest.MonkeyPatch, stop: int, directory: Path, name: str, *overrides: str) -> None:
    class Stop(Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == stop:
                raise Cut

    original = build.build_callbacks
    with monkeypatch.context() as patch:
        patch.setattr(build, "build_callbacks", lambda *args: [*original(*args), Stop()])
        with pytest.raises(Cut):
            run(directory, name, *overrides)


def expected_curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """What the csv files say, by curve: step (a logger counts from 0) and value."""
    rows = list(csv.DictReader((directory / "metrics.csv").read_text().splitlines()))
    plan = list(csv.DictReader((directory / "plan.csv").read_text().splitlines()))
    steps = [int(row["step"]) - 1 for row in rows]
    columns = {name: [float(row[name]) for row in rows] for name in rows[0] if name not in ("epoch", "step")}
    columns |= {f"plan/{name}": [float(row[name]) for row in plan] for name in plan[0] if name.startswith("width_")}
    assert len(columns) > 6
    return {name: list(zip(steps, values, strict=True)) for name, values in columns.items()}


def assert_curves(found: dict[str, list[tuple[int, float]]], directory: Path) -> None:
    """Every curve of the csv files, no point more or less; loss and learning rate of every step."""
    expected = expected_curves(directory)
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], abs=1e-6), name
    last = expected["train/loss"][-1][0]
    for name in ("loss", "lr"):
        assert [step for step, _ in found[name]] == list(range(last + 1)), name
    assert max(value for _, value in found["lr"]) > found["lr"][-1][1] > 0


def tensorboard_events(directory: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    events = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def tensorboard_curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    events = tensorboard_events(directory)
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def mlflow_client(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient((directory / "mlruns").as_uri())


def mlflow_runs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    client = mlflow_client(directory, monkeypatch)
    return client.search_runs([client.get_experiment_by_name("sharcs").experiment_id])


def mlflow_curves(directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, float]]]:
    client, (only,) = mlflow_client(directory, monkeypatch), mlflow_runs(directory, monkeypatch)
    histories = {name: client.get_metric_history(only.info.run_id, name) for name in only.data.metrics}
    return {name: [(point.step, point.value) for point in points] for name, points in histories.items()}


def wandb_records(directory: Path) -> list[list[Any]]:
    """The records of each offline run, in the order in which they were made."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

    paths = (directory / "wandb").glob("offline-run-*/*.wandb")
    found = []
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        records = [Record() for _ in chunks(path.read_bytes())]
        for record, data in zip(records, chunks(path.read_bytes()), strict=True):
            record.ParseFromString(data)
        found.append(records)
    return found


def chunks(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """The records of a log in LevelDB's format behind W&B's header of 7 bytes: parts of a checksum (4 bytes), a length
    (2) and a type (1 whole, 2 first, 3 middle, 4 last part), none across a block's end."""
    place, whole = 7, b""
    while place < len(data):
        if block - place % block < 7:  # padding
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def wandb_curves(records: list[Any]) -> dict[str, list[tuple[int, float]]]:
    import json

    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        row = {key: json.loads(value) for key, value in items.items()}
        for name, value in row.items():
            curves.setdefault(name, []).append((row.get("trainer/global_step", -1), value))
    return curves


@needs("tensorboard")
def test_tensorboard_has_the_curves_of_the_csv_files(tmp_path: Path) -> None:
    run(tmp_path, "tensorboard")
    assert_curves(tensorboard_curves(tmp_path), tmp_path)
    assert "hp_metric" not in tensorboard_curves(tmp_path)
    assert "max_epochs: 3" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()


@needs("tensorboard")
def test_a_run_cut_in_mid_epoch_goes_on_with_the_same_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint is of step 3, the cut at step 5: what was logged between is trained and logged again."""
    run_cut_at(monkeypatch, 5, tmp_path, "tensorboard")
    run(tmp_path, "tensorboard", "ckpt_path=last")
    assert_curves(tensorboard_curves(tmp_path), tmp_path)


@needs("mlflow")
def test_mlflow_has_the_curves_and_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a folder"
    run(folder, "mlflow", "seed=7")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert_curves(mlflow_curves(folder, monkeypatch), folder)
    (only,) = mlflow_runs(folder, monkeypatch)
    assert (only.data.params["seed"], only.data.params["trainer/max_epochs"]) == ("7", "3")
    assert only.info.run_name.endswith("/a folder")


@needs("mlflow")
def test_mlflow_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_cut_at(monkeypatch, 5, tmp_path, "mlflow")
    (cut,) = mlflow_runs(tmp_path, monkeypatch)
    assert cut.info.status == "FAILED"
    run(tmp_path, "mlflow", "ckpt_path=last", "trainer.max_time=00:01:00:00")  # a parameter may have changed
    (whole,) = mlflow_runs(tmp_path, monkeypatch)
    assert whole.info.run_id == cut.info.run_id
    found = dict(mlflow_curves(tmp_path, monkeypatch)["val/routed"])
    assert found == pytest.approx(dict(expected_curves(tmp_path)["val/routed"]))


@needs("mlflow")
def test_mlflow_takes_the_store_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "shared" / "mlruns").as_uri())
    for name in ("a", "b"):
        run(tmp_path / name, "mlflow")
    names = {found.info.run_name.split("/")[-1] for found in mlflow_runs(tmp_path / "shared", monkeypatch)}
    assert names == {"a", "b"}
    assert str(tmp_path / "shared") not in (tmp_path / "a" / ".hydra" / "config.yaml").read_text()


@needs("wandb")
def test_wandb_offline_has_the_curves_and_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "a", "wandb")
    run(tmp_path / "b", "wandb", "seed=7")  # in the same process, as a sweep does
    for name in ("a", "b"):
        (records,) = wandb_records(tmp_path / name)
        assert_curves(wandb_curves(records), tmp_path / name)
    assert "wandb:" not in "".join(capfd.readouterr())


@needs("wandb")
def test_wandb_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_cut_at(monkeypatch, 5, tmp_path, "wandb")
    run(tmp_path, "wandb", "ckpt_path=last")
    first, second = wandb_records(tmp_path)
    ids = [{r.run.run_id for r in records if r.HasField("run")} for records in (first, second)]
    assert ids[0] == ids[1]
    assert dict(wandb_curves(second)["val/routed"]) == pytest.approx(dict(expected_curves(tmp_path)["val/routed"][1:]))


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    from matplotlib.image import imsave

    path = tmp_path / "buckets.png"
    imsave(path, [[[0.0, 0.5, 1.0]] * 4] * 3)
    return path


def finished(directory: Path, name: str, figure: Path) -> RunLogger:
    logger = RunLogger(LoggerSettings(name, offline=True), directory, {"optim": {"lr": 0.1}, "none": None})
    assert not directory.exists()
    logger.finish(METRICS, [figure], 9)
    return logger


@needs("tensorboard")
def test_tensorboard_ends_with_results_and_figures(tmp_path: Path, figure: Path) -> None:
    finished(tmp_path / "run", "tensorboard", figure)
    events = tensorboard_events(tmp_path / "run")
    assert tensorboard_curves(tmp_path / "run")["final/rung_1_3"] == [(9, pytest.approx(0.7))]
    (image,) = events.Images("figures/buckets")
    assert (image.step, image.height, image.width) == (9, 3, 4)


@needs("mlflow")
def test_mlflow_ends_with_results_and_figures(tmp_path: Path, figure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path / "run", "mlflow", figure)
    (only,) = mlflow_runs(tmp_path / "run", monkeypatch)
    assert only.info.status == "FINISHED"
    assert only.data.metrics == final_values(METRICS)
    (artifact,) = mlflow_client(tmp_path / "run", monkeypatch).list_artifacts(only.info.run_id, "figures")
    assert artifact.path == "figures/buckets.png"


@needs("wandb")
def test_wandb_ends_with_results_and_figures(tmp_path: Path, figure: Path) -> None:
    finished(tmp_path / "run", "wandb", figure)
    (records,) = wandb_records(tmp_path / "run")
    curves = wandb_curves(records)
    assert {name: curves[name] for name in final_values(METRICS)} == {
        name: [(9, value)] for name, value in final_values(METRICS).items()
    }
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images/figures/*.png"))


def test_the_results_are_those_of_the_first_split_and_of_its_metric() -> None:
    assert final_values(METRICS) == {
        "final/routed": 0.75, "final/rung_1_3": 0.7, "final/macs_fraction": 0.5, "final/random": 0.6,
        "final/random_macs_fraction": 0.55, "final/oracle": 0.9, "final/oracle_macs_fraction": 0.4,
        "final/regret": 0.15,
    }  # fmt: skip


def test_the_run_is_named_after_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_name(Path("runs/mine")) == "runs/mine"
    assert run_name(Path("mine")) == f"{tmp_path.name}/mine"


def test_the_tables_the_yamls_and_the_extras_name_the_same_loggers() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(LOGGERS) == set(config_module.LOGGERS)
    assert set(LOGGERS) <= set(project["optional-dependencies"])
    assert {path.stem for path in (conf_dir() / "logger").glob("*.yaml")} == {"none", *LOGGERS}


def test_a_logger_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B makes a folder of its own name where it runs; python takes it for a package that has no modules."""
    check_logger("none")
    monkeypatch.setattr(config_module, "LOGGERS", ("tool_x",))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"logger=tool_x .* pip install 'sharcs-pl\[tool_x\]'"):
            check_logger("tool_x")
        (tmp_path / "tool_x").mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tool_x" / "__init__.py").touch()
    importlib.invalidate_caches()
    check_logger("tool_x")
