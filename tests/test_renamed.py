"""The earlier name of the task ``custom``, at every door through which it still comes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hydra.errors import MissingConfigException

from sharcs_pl.analysis.comparison.runs import read_run
from sharcs_pl.config import RunConfig
from sharcs_pl.config.errors import explain
from sharcs_pl.config.report import ReportConfig
from sharcs_pl.inference.record import read_record
from sharcs_pl.pipeline.sections import base_config, from_sections
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.identity import config_differences
from tests.commands import run_line
from tests.conftest import compose_config

REST = ("encoder=minilm", "task.text=a", "task.label=b")
METRICS = {
    "task": "own", "metric": "accuracy", "method": "dense", "encoder": "minilm", "seed": 1, "dense_macs": 10.0,
    "routed": {"value": 0.5, "macs": 10.0}, "rungs": [{"width": 1, "value": 0.5, "macs": 10.0}],
}  # fmt: skip


@pytest.fixture
def config() -> RunConfig:
    return run_config(compose_config("task=custom", *REST))


@pytest.mark.parametrize("words", [("task=own",), ("task=custom", "task.name=own")], ids=str)
def test_on_the_command_line_it_is_the_same_run(words: tuple[str, ...], config: RunConfig) -> None:
    assert run_config(compose_config(*words, *REST)) == config


def test_a_recipe_of_its_name_is_the_one_of_the_present_name() -> None:
    old, new = (run_config(compose_config("task=custom", f"recipe={x}_minilm", *REST)) for x in ("own", "custom"))
    assert old == new


def test_in_a_sweep(tmp_path: Path) -> None:
    done = run_line(["sharcs_pl.train", "-m", "task=own,sst2", "encoder=tiny"], cwd=tmp_path, kind="loaded")
    assert "error: job task=own encoder=tiny: task.text is missing" in done.stderr


def test_in_the_users_yamls(tmp_path: Path) -> None:
    """As an earlier version wrote the recipe of a saved task."""
    for name, lines in {"recipe/pairs_minilm": "  - own_minilm", "experiment/mine": "  - override /task: own"}.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(f"# @package _global_\ndefaults:\n{lines}\n")
    for choice in ("recipe=pairs_minilm", "experiment=mine"):
        words = ["sharcs_pl.train", "encoder=minilm", "task.text=a", "task.label=b", choice, "--cfg", "job"]
        done = run_line(words, cwd=tmp_path, kind="loaded")
        assert done.returncode == 0, done.stderr
        found = yaml.safe_load(done.stdout)
        expected = (8, 0.6) if choice.startswith("recipe") else ("auto", "auto")
        assert (found["batch_size"], found["router"]["threshold"]) == expected
        assert found["task"]["name"] == ("custom" if choice == "experiment=mine" else "graded")


def test_in_a_config_file_of_lightnings_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("preset: {task: own, encoder: minilm}\n")
    for words in (["fit", f"--config={path}"], ["fit", "--preset.task=own", "--preset.encoder=minilm"]):
        plain = base_config(words)
        assert (plain["task"]["name"], plain["batch_size"]) == ("custom", "auto")


def test_in_typed_sections(config: RunConfig) -> None:
    plain = json.loads(json.dumps(asdict(config)))
    plain["task"]["name"] = "own"
    model = {name: plain[name] for name in plain if name not in ("task", "batch_size", "eval_batch_size", "seed")}
    beside = {name: plain[name] for name in ("trainer", "checkpoint", "logger", "overwrite", "ckpt_path", "objective")}
    data = {name: plain[name] for name in ("task", "batch_size", "eval_batch_size")}
    assert from_sections({"model": model, "data": data, "seed_everything": 1, **beside}) == config


def test_in_a_record_and_a_marker(config: RunConfig) -> None:
    plain = json.loads(json.dumps(asdict(config)))
    plain["task"]["name"] = "own"
    assert read_record(plain).task.name == "custom"
    assert config_differences({"given": plain}, config) == []
    other = run_config(compose_config("task=custom", *REST, "seed=2"))
    assert config_differences({"given": plain}, other) == ["seed: 1 there, 2 here"]


def test_a_run_keeps_its_digest() -> None:
    """As a commit before the change printed it."""
    assert run_config(compose_config("task=custom", "recipe=custom_minilm", *REST)).digest() == "6cd89f2333160a0b"


def test_in_the_results_of_a_run_and_what_a_report_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    assert read_run(tmp_path).task == "custom"
    assert ReportConfig(only_task="own").only_task == "custom"


def test_no_message_offers_it() -> None:
    with pytest.raises(MissingConfigException) as caught:
        compose_config("task=ow")
    assert " own" not in explain(caught.value, RunConfig)
    with pytest.raises(MissingConfigException) as caught:
        compose_config("recipe=x")
    assert "choose one of: custom_minilm, default, mrpc_minilm, none, paper, sst2_minilm" in explain(
        caught.value, RunConfig
    )
