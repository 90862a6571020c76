from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sharcs_pl.inputs import check_disk, existing_parent, read_inputs, read_task
from sharcs_pl.models.architectures import EncoderSizes
from sharcs_pl.models.locate import EncoderFiles
from sharcs_pl.rundir import run_config
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


def test_the_disk_must_hold_what_the_checkpoint_settings_ask_for(tmp_path: Path) -> None:
    config = run_config(compose_config(*TINY))
    encoder = EncoderFiles("x", EncoderSizes(8, 2, 16, 2, 32), weight_bytes=10**15)
    with pytest.raises(ValueError, match=r"hydra\.run\.dir=.*are free there"):
        check_disk(config, encoder, tmp_path / "not" / "there")
    check_disk(config, replace(encoder, weight_bytes=1), tmp_path)
    assert existing_parent(tmp_path / "a" / "b") == tmp_path
