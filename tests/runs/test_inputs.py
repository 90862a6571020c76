from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharcs_pl.config.calibrate import CalibrateConfig, CalibrationPaths
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.spec import Examples
from sharcs_pl.inference.rows import InputRow
from sharcs_pl.inference.rows import read_inputs as read_rows
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.models.encoder_sizes import EncoderSizes
from sharcs_pl.models.locate import EncoderFiles
from sharcs_pl.pipeline.prediction_inputs import make_layout
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.inputs import check_disk, check_limits, existing_parent, read_inputs, read_task
from tests.conftest import TINY, compose_config


def test_the_embedded_task_needs_no_encoder_and_no_files(tmp_path: Path) -> None:
    inputs = read_inputs(run_config(compose_config(*TINY)), tmp_path / "new")
    assert inputs.encoder is None
    assert {split: len(examples) for split, examples in inputs.examples.items()} == {"train": 48, "validation": 24}
    assert not (tmp_path / "new").exists()


def test_fewer_training_samples_are_drawn_with_the_seed() -> None:
    config = run_config(compose_config(*TINY, "task.max_train_samples=10")).task
    draws = [read_task(config, ("train",), seed)[1]["train"].texts for seed in (1, 1, 2)]
    assert len(draws[0]) == 10
    assert draws[0] == draws[1] != draws[2]


def test_the_embedded_task_keeps_a_share_of_train_for_calibration() -> None:
    config = run_config(compose_config(*TINY, "task.calibration=0.25")).task
    whole = read_task(run_config(compose_config(*TINY)).task, ("train", None), 1)[1]
    found = read_task(config, ("train", None, "calibration"), 1)[1]
    assert {split: len(examples) for split, examples in found.items()} == {
        "train": 36, "validation": 24, "calibration": 12,
    }  # fmt: skip
    assert found["validation"].texts == whole["validation"].texts
    assert sorted(found["train"].texts + found["calibration"].texts) == sorted(whole["train"].texts)
    assert found["calibration"].difficulty is not None
    assert found["calibration"].texts == read_task(config, ("calibration",), 1)[1]["calibration"].texts
    fewer = replace(config, max_train_samples=5)
    assert read_task(fewer, ("calibration",), 1)[1]["calibration"].texts == found["calibration"].texts
    assert len(read_task(fewer, ("train",), 1)[1]["train"]) == 5


def test_a_glue_task_keeps_a_share_of_train_for_calibration(tmp_path: Path) -> None:
    rows = "".join(f"text {i}\t{i % 2}\n" for i in range(40))
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("sentence\tlabel\n" + rows)
    options = ("task=sst2", f"task.data_dir={tmp_path}", "encoder=minilm", "task.calibration=0.1")
    with pytest.warns(DataWarning):
        found = read_task(run_config(compose_config(*options)).task, ("train", None, "calibration"), 1)[1]
    assert {split: len(examples) for split, examples in found.items()} == {
        "train": 36, "validation": 40, "calibration": 4,
    }  # fmt: skip
    assert not set(found["train"].texts) & set(found["calibration"].texts)


SEMICOLONS = "text;label\r\ngrün, sagte er;a\r\nblau;b\r\n".encode("cp1252")
OWN = ("task=custom", "encoder=minilm", "task.text=text", "task.label=label", "task.labels=[a,b]")


def test_every_command_reads_a_file_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(SEMICOLONS))
    texts = [("grün, sagte er",), ("blau",)]
    trained = run_config(compose_config(*OWN, f"task.train={path}", f"task.dev={path}", "task.encoding=windows-1252"))
    with pytest.warns(DataWarning, match="dev texts are also in train"):
        found = read_task(trained.task, ("train", None), 1)[1]
    assert [examples.texts for examples in found.values()] == [texts, texts]
    plain = run_config(compose_config(*OWN, f"task.train={path}", f"task.dev={path}"))
    with pytest.raises(ValueError, match=r"a\.csv\.gz, line 2: .*; task\.encoding=cp1252 would read 'grün' here"):
        read_task(plain.task, (None,), 1)
    here = CalibrationPaths(encoding="cp1252", delimiter="semicolon")
    for command in (EvaluateConfig(run="x", task=here), CalibrateConfig(run="x", budget=0.5, task=here).evaluation()):
        for run in (trained, plain):
            assert read_task(command.applied_to(run).task, (None,), 1)[1]["validation"].texts == texts
    layout = make_layout(PredictConfig("x", str(path), "y", encoding="cp1252"), TrainedModel(path, path, trained), path)
    assert [row.texts for row in read_rows(layout) if isinstance(row, InputRow)] == texts


def test_predict_tries_the_runs_delimiter_and_finds_others(tmp_path: Path) -> None:
    run = run_config(compose_config(*OWN, "task.delimiter='^'", "task.dev=a.csv", "task.encoding=latin-1"))
    for separator in "^,;|\t":
        path = tmp_path / "new.csv"
        path.write_text(f"id{separator}text\n1{separator}grün\n", encoding="utf-8")
        layout = make_layout(PredictConfig("x", str(path), "y"), TrainedModel(path, path, run), path)
        assert [row.texts for row in read_rows(layout) if isinstance(row, InputRow)] == [("grün",)]


def test_the_disk_must_hold_what_the_checkpoint_settings_ask_for(tmp_path: Path) -> None:
    config = run_config(compose_config(*TINY))
    encoder = EncoderFiles("x", EncoderSizes(8, 2, 16, 2, 32), weight_bytes=10**15)
    with pytest.raises(ValueError, match=r"hydra\.run\.dir=.*are free there"):
        check_disk(config, encoder, tmp_path / "not" / "there")
    check_disk(config, replace(encoder, weight_bytes=1), tmp_path)
    assert existing_parent(tmp_path / "a" / "b") == tmp_path


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        (["trainer.limit_val_batches=0.3"], False),
        (["trainer.limit_val_batches=0.34"], True),
        (["trainer.limit_val_batches=1"], True),
        (["trainer.limit_val_batches=0.5", "trainer.devices=2"], False),
        (["trainer.limit_train_batches=0.3"], False),
        (["trainer.limit_train_batches=0.34"], True),
        (["trainer.limit_train_batches=0.5", "batch_size=24"], False),
        (["trainer.limit_train_batches=1.0", "batch_size=24"], True),
    ],
)
def test_a_share_of_the_batches_is_some_of_them(options: list[str], fits: bool) -> None:
    """Of 48 samples in two batches of 8 a step there are 3 steps, of 24 in batches of 8 three more."""
    config = run_config(compose_config(*TINY, "eval_batch_size=8", *options))
    examples = {"train": Examples([("x",)] * 48, np.zeros(48)), "validation": Examples([("x",)] * 24, np.zeros(24))}
    if fits:
        return check_limits(config, examples, ["validation"])
    with pytest.raises(ValueError, match=r"trainer\.limit_(train|val)_batches=.* is none; give a larger share, or 1"):
        check_limits(config, examples, ["validation"])
