"""Lightning's command line: the same runs as the Hydra entry's, from typed sections."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.callbacks import ModelSummary

from sharcs_pl import cli
from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.errors import Diverged, Interrupted
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.evaluate import run as evaluate_run
from sharcs_pl.pipeline import sections
from sharcs_pl.pipeline.fit import Composed, ends_told
from sharcs_pl.runs.directory import MARKER, run_config
from sharcs_pl.runs.preflight import Preflight
from sharcs_pl.training.module import SharcsModule
from tests.conftest import TINY, compose_config
from tests.processes import run_ranks

pytest.importorskip("jsonargparse")  # of the extra [cli]
lightning_cli: Any = importlib.import_module("sharcs_pl.pipeline.lightning_cli")

LIGHTNING = conf_dir() / "lightning"
# What each file of conf/lightning stands for, in Hydra's words.
HYDRA: dict[str, list[str]] = {
    "graded": [],
    "cola_minilm": ["task=cola", "encoder=minilm"],
    "mnli_roberta": ["experiment=mnli_roberta"],
    "ddp": ["trainer=ddp", "trainer.accelerator=cpu"],
}


def typed(override: str) -> str:
    """A Hydra override as an argument of this command."""
    key, value = override.split("=", 1)
    group, dot, rest = key.partition(".")
    return f"--{sections.place(group)}{dot}{rest}={value}"


TYPED = [typed(override) for override in TINY]


def command(*arguments: str) -> None:
    """What ``python -m sharcs_pl.cli`` does, in this process, but for the figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharcs_pl.analysis.figures.plots.have_matplotlib", lambda: False)
        patch.setattr(sys, "argv", ["cli", *arguments])
        cli.main()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        command(*arguments, "--print_config")
    assert end.value.code == 0
    return capsys.readouterr().out


def config_of(text: str) -> RunConfig:
    return sections.from_sections(yaml.safe_load(text))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake is answered with."""
    with pytest.raises(SystemExit) as end:
        command(*arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default task by ``fit``."""
    folder = tmp_path_factory.mktemp("lightning")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        config = f"--config={LIGHTNING / 'graded.yaml'}"
        command("fit", config, *TYPED, f"--trainer.default_root_dir={folder / 'run'}")
    return folder / "run"


def test_the_same_seed_gives_what_the_hydra_entry_gives(trained: Path, tiny_run: Path) -> None:
    for name in ("metrics.json", "metrics.csv", "plan.csv", "predictions.tsv", "model/config.json"):
        assert (trained / name).read_text() == (tiny_run / name).read_text()
    weights = "model/model.safetensors"
    assert (trained / weights).read_bytes() == (tiny_run / weights).read_bytes()
    digests = [json.loads((folder / MARKER).read_text())["digest"] for folder in (trained, tiny_run)]
    assert digests[0] == digests[1]


def test_a_printed_config_gives_the_same_config_and_the_same_result(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = printed(capsys, "fit", *TYPED, "--preset.distill=top", "--seed_everything=3")
    (tmp_path / "once.yaml").write_text(once)
    assert printed(capsys, "fit", f"--config={tmp_path / 'once.yaml'}") == once
    # The preset is not in it: edited there, it would change nothing.
    assert "preset" not in once
    assert config_of(once).distill.name == "top"
    (tmp_path / "whole.yaml").write_text(printed(capsys, "fit", *TYPED))
    command("fit", f"--config={tmp_path / 'whole.yaml'}", f"--trainer.default_root_dir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "metrics.json").read_text() == (trained / "metrics.json").read_text()


def test_a_run_keeps_the_config_that_repeats_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = printed(capsys, "fit", f"--config={trained / lightning_cli.SAVED}")
    assert config_of(kept).digest() == json.loads((trained / MARKER).read_text())["digest"]


def fit_in_two(rank: int, folder: Path) -> None:
    os.chdir(folder)
    os.environ["SHARCS_CACHE"] = str(folder / "cache")
    command("fit", f"--config={LIGHTNING / 'ddp.yaml'}", *TYPED)


def test_two_processes_train_what_one_does_into_one_directory(trained: Path, tmp_path: Path) -> None:
    run_ranks(2, fit_in_two, tmp_path)
    (found,) = (tmp_path / "runs" / "graded-tiny-sharcs").iterdir()
    assert (found / lightning_cli.SAVED).exists()
    one, two = (csv.DictReader((folder / "metrics.csv").read_text().splitlines()) for folder in (trained, found))
    losses = [[float(row["train/loss"]) for row in rows] for rows in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    # Two processes were asked for, and one evaluates: no sample is counted twice.
    command("validate", f"--ckpt_path={found}", "--trainer.devices=2")
    rows = (found / "evaluation" / "validation" / "predictions.tsv").read_text().splitlines()
    assert len(rows) == 1 + 24


@pytest.mark.parametrize("name", sorted(path.stem for path in LIGHTNING.glob("*.yaml")))
def test_a_config_file_means_what_hydra_composes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = config_of(printed(capsys, "fit", f"--config={LIGHTNING / name}.yaml"))
    assert found == run_config(compose_config(*HYDRA[name]))


def test_every_key_of_a_run_has_its_place() -> None:
    config = run_config(compose_config("task=mrpc", "encoder=minilm", "overwrite=true", "seed=5"))
    values: dict[str, Any] = {"ckpt_path": None}
    for key, value in sections.to_sections(asdict(config)).items():
        *path, leaf = key.split(".")
        node = values
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    assert set(values) == {
        "data", "model", "trainer", "checkpoint", "logger", "overwrite", "objective", "seed_everything", "ckpt_path",
    }  # fmt: skip
    assert sections.from_sections(values) == config


def test_typed_beats_file_beats_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "preset: {task: mrpc, encoder: minilm, recipe: mrpc_minilm}\nmodel: {optim: {lr: 3e-4, eps: 1e-6}}\n"
    )
    typed_keys = ("--model.optim.lr=1e-4", "--trainer.max_epochs=5", "--trainer.devices=2")
    config = config_of(printed(capsys, "fit", "--preset.task=sst2", f"--config={file}", *typed_keys))
    assert (config.task.name, config.optim.lr, config.optim.eps) == ("mrpc", 1e-4, 1e-6)
    assert (config.trainer.max_epochs, config.trainer.devices) == (5, 2)
    assert config.width.split_layer == 4  # of the recipe
    words = ("--preset.task", "sst2", "--preset.recipe", "sst2_minilm")
    other = config_of(printed(capsys, "fit", f"--config={file}", *words))
    assert (other.task.name, other.width.split_layer, other.optim.lr) == ("sst2", 3, 3e-4)


def test_files_of_ones_own_are_choices_of_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "optim").mkdir(parents=True)
    (tmp_path / "conf" / "optim" / "mine.yaml").write_text("beta2: 0.5\n")
    monkeypatch.chdir(tmp_path)
    assert config_of(printed(capsys, "fit", "--preset={optim: mine}")).optim.beta2 == 0.5


def test_from_python_the_objects_are_there_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cli"])
    callback = "--trainer.callbacks=lightning.pytorch.callbacks.ModelSummary"
    arguments = [*TYPED, callback, "--trainer.callbacks.max_depth=3", f"--trainer.default_root_dir={tmp_path / 'run'}"]
    made = lightning_cli.SharcsCLI([*arguments, "--trainer.min_epochs=2"], run=False)
    assert type(made.model) is SharcsModule
    assert type(made.datamodule) is SharcsDataModule
    assert (made.trainer.max_epochs, made.trainer.min_epochs) == (3, 2)
    summary = next(x for x in made.trainer.callbacks if type(x) is ModelSummary)
    assert summary._max_depth == 3
    assert not (tmp_path / "run").exists()


def test_help_has_every_key_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command("fit", "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    for words in ("--model.optim.lr", "Peak learning rate", "--data.task.data_dir", "--trainer.max_epochs", "--preset"):
        assert words in text
    assert "--trainer.use_distributed_sampler" not in text


def test_validate_gives_what_evaluate_gives(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoints" / "best.ckpt"
    # The file alone would ask for the whole task: the checkpoint knows the texts that it was trained for.
    config = f"--config={LIGHTNING / 'graded.yaml'}"
    command("validate", config, f"--ckpt_path={checkpoint}", f"--trainer.default_root_dir={tmp_path}")
    folder = tmp_path / "evaluation" / "validation"
    metrics = evaluate_run(EvaluateConfig(run=str(checkpoint), output=str(tmp_path / "other")))
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    whole = json.loads((trained / "metrics.json").read_text())
    assert metrics is not None
    assert metrics["routed"] == whole["routed"]


def test_predict_writes_predictions(trained: Path) -> None:
    command("predict", f"--ckpt_path={trained}")
    found = trained / "evaluation" / "validation" / "predictions.tsv"  # the embedded task has no test split
    assert found.read_text() == (trained / "predictions.tsv").read_text()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own data, its test files with and without labels, and a run on it."""
    from sharcs_pl.data.synthetic import word_tokenizer
    from tests.conftest import tiny_bert

    folder = tmp_path_factory.mktemp("own")
    words = sorted(word_tokenizer().get_vocab())[10:34]
    for number, name in enumerate(("train", "dev", "test")):
        rows = [f"{word} {words[number]},{'ab'[i % 2]}" for i, word in enumerate(words)]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (folder / "new.csv").write_text("\n".join(["text", *words]) + "\n")
    tiny_bert(vocab_size=len(word_tokenizer())).save_pretrained(folder / "encoder")
    word_tokenizer().save_pretrained(folder / "encoder")
    settings = {
        "preset": {"task": "own", "encoder": "custom"},
        "model": {"encoder": {"pretrained": str(folder / "encoder")}, "hardness": {"window": 1}},
        "data": {
            "task": {"text": "text", "label": "label", "max_length": 16}
            | {name: str(folder / f"{name}.csv") for name in ("train", "dev", "test")}
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        command("fit", f"--config={folder / 'own.yaml'}", f"--trainer.default_root_dir={folder / 'run'}")
    return folder


def test_test_needs_labels_and_predict_does_not(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = (f"--config={own / 'own.yaml'}", f"--ckpt_path={own / 'run'}")
    folder = own / "run" / "evaluation" / "test"
    command("test", *common)
    assert json.loads((folder / "metrics.json").read_text())["routed"]["value"] >= 0
    capsys.readouterr()
    new = f"--data.task.test={own / 'new.csv'}"
    assert "labels" in refused(capsys, "test", *common, new)
    command("predict", *common, new)
    rows = list(csv.DictReader((folder / "predictions.tsv").read_text().splitlines(), delimiter="\t"))
    assert len(rows) == 24
    assert {row["label"] for row in rows} == {""}
    assert {row["prediction"] for row in rows} <= {"a", "b"}


def test_a_run_goes_on_and_is_not_replaced_unasked(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "metrics.json").read_text()
    here = (*TYPED, f"--trainer.default_root_dir={trained}")
    assert "ckpt_path=last" in refused(capsys, "fit", *here)
    error = refused(capsys, "fit", *here, "--seed_everything=2")
    assert "trainer.default_root_dir=<another folder>" in error
    command("fit", *here, "--ckpt_path=last")
    assert (trained / "metrics.json").read_text() == before


def test_in_a_job_the_directory_is_the_jobs_and_processes_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"}
    for name, value in (job | {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert "srun started 2 processes on 1 node, the config asks for 1 process" in refused(capsys, "fit", *TYPED)
    assert not list(tmp_path.iterdir())
    assert lightning_cli.SharcsCLI([], run=False).run_dir.name == "slurm-7.0"


def test_a_quick_training_is_validated_in_full(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    marker = folder / ".hydra" / "run.json"
    held = json.loads(marker.read_text())
    held["config"]["trainer"]["limit_val_batches"] = 1
    marker.write_text(json.dumps(held))
    assert sections.base_config(["validate", f"--ckpt_path={folder}"])["trainer"]["limit_val_batches"] is None


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(ready: Preflight, run_dir: Path, composed: Composed, *_: Any) -> None:
        (run_dir / "checkpoints").mkdir(parents=True)
        (run_dir / "checkpoints" / "last.ckpt").touch()
        with ends_told(run_dir / "checkpoints" / "last.ckpt", composed):
            raise Interrupted(signal.SIGTERM, requeued=requeued)

    monkeypatch.setattr(lightning_cli, "train", interrupted)
    monkeypatch.chdir(tmp_path)
    requeued = True
    with pytest.raises(SystemExit):
        command("fit", f"--trainer.default_root_dir={tmp_path / 'requeued'}")
    assert "to go on" not in capfd.readouterr().err
    requeued = False
    with pytest.raises(SystemExit):
        command("fit", "--data.batch_size=8")
    line = capfd.readouterr().err.splitlines()[-1]
    (folder,) = (tmp_path / "runs" / "graded-tiny-sharcs").iterdir()
    assert line.startswith("python -m sharcs_pl.cli fit --data.batch_size=8 ")
    assert f"--trainer.default_root_dir=runs/graded-tiny-sharcs/{folder.name} --ckpt_path=last" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("fit --model.optim.lr=-1", "model.optim.lr=-1 is out of range"),
        ("fit --model.optim.lrr=1", "--model.optim.lrr"),
        ("fit --config=bad.yaml", "model.optim.lrr"),
        ("fit --config=broken.yaml", "--config=broken.yaml is no yaml"),
        ("fit --config=list.yaml", "--config=list.yaml holds no keys"),
        ("fit --config=nowhere.yaml", "nowhere.yaml"),
        ("fit --data.batch_size=many", "data.batch_size"),
        ("fit --preset.task=colaa", "did you mean preset.task=cola?"),
        ("fit --preset.tsk=cola", "no key tsk"),
        ("fit --preset.recipe=none_such", "preset.recipe=none_such is unknown"),
        ("fit --preset=[1]", "preset=[1] must name a choice per group"),
        ("fit --preset={task:", "--preset is no yaml"),
        ("fit --trainer.devices=[1", "trainer.devices"),
        ("fit --preset.task=cola", "preset.encoder=tiny starts from scratch"),
        ("fit --trainer.devices=3", "3 processes"),
        ("fit --ckpt_path=nowhere", "ckpt_path=nowhere does not exist"),
        ("validate", "ckpt_path is missing"),
        ("validate --ckpt_path=nowhere", "ckpt_path=nowhere does not exist"),
        ("", "fit"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("model: {optim: {lrr: 3}}\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "list.yaml").write_text("[1]\n")
    before = sorted(tmp_path.iterdir())
    assert words in refused(capsys, *arguments.split())
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before


def test_a_diverged_run_ends_with_exit_code_1_and_names_its_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge() -> None:
        raise Diverged("the loss is nan; try a smaller optim.lr; overwrite=true begins again")

    monkeypatch.setattr("sharcs_pl.pipeline.lightning_cli.SharcsCLI", diverge)
    monkeypatch.setattr("sys.argv", ["cli", "fit"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    assert (
        capsys.readouterr().err == "error: the loss is nan; try a smaller model.optim.lr; overwrite=true begins again\n"
    )


@pytest.mark.parametrize(
    ("hydra", "here"),
    [
        ("hydra.run.dir=runs/a: a file", "trainer.default_root_dir=runs/a: a file"),
        ("seed=-1 must be 0", "seed_everything=-1 must be 0"),
        ("task=cola needs task.data_dir", "preset.task=cola needs data.task.data_dir"),
        (
            "choose encoder=bert or experiment=mnli_roberta",
            "choose preset.encoder=bert or preset.experiment=mnli_roberta",
        ),
        ("run=a.ckpt; overwrite=true", "ckpt_path=a.ckpt; overwrite=true"),
        ("trainer.max_epochs=3, logger.name=x", "trainer.max_epochs=3, logger.name=x"),
        ("/data/task.csv, my.task.name, a-run=1", "/data/task.csv, my.task.name, a-run=1"),
    ],
)
def test_messages_name_keys_as_they_are_typed_here(hydra: str, here: str) -> None:
    assert sections.typed(hydra) == here


def test_a_trained_model_is_evaluated_as_it_is(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("validate", f"--ckpt_path={trained}")
    error = refused(capsys, *common, "--model.router.threshold=0.3")
    assert error.startswith("error: model.router.threshold=0.3: the checkpoint was trained with null")
    assert "data.task.name=cola" in refused(capsys, *common, "--data.task.name=cola")
    assert "no split 'test'" in refused(capsys, "test", f"--ckpt_path={trained}")


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jsonargparse" else found(name))
    assert "pip install 'sharcs-pl[cli]'" in refused(capsys, "fit")
