from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.config import RunConfig
from sharcs_pl.pipeline.build import Run, cache_dir, matched_steps
from sharcs_pl.pipeline.build import build_run as build_from
from sharcs_pl.pipeline.devices import check_devices
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.inputs import read_inputs
from sharcs_pl.training.callbacks import EpochFractionSchedule
from tests.conftest import TINY, compose_config


def build_run(config: RunConfig, directory: Path) -> Run:
    return build_from(config, read_inputs(config, directory), directory)


def test_every_option_reaches_its_object(tmp_path: Path) -> None:
    options = (
        "width.multipliers=[0.5,1]", "width.split_layer=1", "width.reduction=learned", "width.top_rung_norm=true",
        "width.loss_weights=[2,1]", "router.hidden_size=5", "router.loss_weight=0.5", "router.warmup_loss=true",
        "hardness.fill=none", "hardness.repeat_cap=2", "hardness.weight_by_bucket=true", "distill=top",
        "distill.weight=0.3", "distill.temperature=2", "encoder.dropout=0.25", "optim.lr=0.5", "optim.new_lr_scale=3",
        "optim.weight_decay=0.2", "encoder.attn_implementation=eager", "trainer.precision=bf16-mixed",
        "method.skim_weight=0.7",
    )  # fmt: skip
    run = build_run(run_config(compose_config(*TINY, *options)), tmp_path)
    config, objective, optimizer = run.module.model.config, run.module.objective, run.module.optimizer_settings
    assert (config.widths, config.reduction, config.top_rung_norm) == (["0.5", "1"], "learned", True)
    assert (config.router_hidden_size, config.encoder["hidden_dropout_prob"]) == (5, 0.25)
    assert run.module.model.encoder.config._attn_implementation == "eager"
    assert (objective.router_weight, objective.warmup_loss, objective.rung_weights) == (0.5, True, (2.0, 1.0))
    assert (objective.distill_weight, objective.temperature, objective.weight_by_bucket) == (0.3, 2.0, True)
    assert (objective.skim_weight, config.skim) == (0.7, 4)
    assert (optimizer.lr, optimizer.new_lr_scale, optimizer.weight_decay) == (0.5, 3.0, 0.2)
    plan = run.datamodule.plan_config
    assert (plan.fill, plan.repeat_cap, plan.batch_size, plan.batches_per_step) == ("none", 2, 8, 2)
    assert run.trainer.precision == "bf16-mixed"


@pytest.mark.parametrize(("method", "after"), [("sharcs", 2), ("dense", 0)])
def test_the_rate_starts_anew_where_routing_begins_and_only_there(method: str, after: int, tmp_path: Path) -> None:
    options = (f"method={method}", "hardness.warmup_epochs=2", "optim.restart=true")
    for given, expected in ((options, after), (options[:-1], 0)):
        callbacks: list[Any] = build_run(run_config(compose_config(*TINY, *given)), tmp_path).trainer.callbacks  # pyright: ignore
        found = [each.restart_after for each in callbacks if isinstance(each, EpochFractionSchedule)]
        assert found == [expected]


def test_dense_has_one_rung_and_no_routing(tmp_path: Path) -> None:
    run = build_run(
        run_config(compose_config(*TINY, "method=dense", "distill=top", "width.loss_weights=[2,1]")), tmp_path
    )
    assert run.module.model.router is None
    assert run.datamodule.bounds is None
    assert (run.datamodule.plan_config.num_rungs, run.datamodule.plan_config.batches_per_step) == (1, 2)
    assert (run.module.objective.distill_weight, run.module.objective.rung_weights) == (0.0, None)


def test_world_sizes_that_do_not_fit_are_refused_before_anything_loads(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.devices"):
        build_run(run_config(compose_config(*TINY, "trainer.devices=3")), tmp_path)


def test_matching_a_folder_that_is_no_run_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"method\.match"):
        matched_steps(str(tmp_path))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHARCS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "sharcs_pl"
    monkeypatch.setenv("SHARCS_CACHE", "/elsewhere")
    assert cache_dir() == Path("/elsewhere")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="for a CPU alone")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.accelerator=gpu"], r"trainer\.accelerator=gpu: torch sees no such device here; use trainer\.acc"),
        (["trainer.accelerator=cuda"], r"trainer\.accelerator=cuda: torch sees no such device"),
        (["trainer.accelerator=mps"], r"trainer\.accelerator=mps: torch sees no such device"),
        (["trainer.accelerator=auto", "trainer.devices=[0]"], r"trainer\.devices=\[0\] chooses GPUs, and none is here"),
        (["trainer.accelerator=auto", "trainer.devices=-1"], r"trainer\.devices=-1 chooses GPUs, and none is here"),
        (["trainer.precision=16-mixed"], r"trainer\.precision=16-mixed needs a GPU; on a CPU use bf16-mixed"),
    ],
)
def test_devices_that_are_not_here_are_refused_by_their_key(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_run(run_config(compose_config(*TINY, *options)), tmp_path)


def test_gpus_beyond_those_here_are_refused_by_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for devices in ("[0,2]", "3"):
        config = run_config(compose_config("trainer.accelerator=gpu", f"trainer.devices={devices}"))
        with pytest.raises(ValueError, match=r"trainer\.devices=.*: 2 GPUs are here"):
            check_devices(config)
    for devices in ("[1]", "2", "auto", "-1"):
        check_devices(run_config(compose_config("trainer.accelerator=gpu", f"trainer.devices={devices}")))
