from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.launch.slurm import SlurmJob
from sharcs_pl.runs import directory
from sharcs_pl.runs.directory import RunState, check_same_data, claim, clear, decide, run_config
from sharcs_pl.runs.files import LISTED, LOCK, MARKER, written
from sharcs_pl.runs.identity import read_facts
from sharcs_pl.runs.inputs import read_inputs
from sharcs_pl.runs.lock import Holder
from tests.conftest import TINY, compose_config


def claimed(directory: Path, *overrides: str, job: SlurmJob | None = None) -> RunConfig:
    cfg = compose_config(*overrides)
    config = run_config(cfg)
    claim(config, directory, cfg, None, job=job)
    return config


def test_an_empty_folder_is_fresh_whatever_is_asked(tmp_path: Path) -> None:
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path / "new") is RunState.FRESH
    assert not (tmp_path / "new").exists()


def test_the_same_config_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    claimed(tmp_path)
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path) is RunState.RESUME
    with pytest.raises(ValueError, match="ckpt_path=last"):
        decide(run_config(compose_config()), tmp_path)
    with pytest.raises(ValueError, match=r"another config; add hydra.run.dir"):
        decide(run_config(compose_config("ckpt_path=last", "seed=2")), tmp_path)


def test_what_is_only_shown_does_not_make_another_config(tmp_path: Path) -> None:
    claimed(tmp_path)
    same = ("ckpt_path=last", "trainer.enable_progress_bar=false", "checkpoint.every_n_steps=5", "objective=cost")
    assert decide(run_config(compose_config(*same)), tmp_path) is RunState.RESUME


def test_overwrite_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    claimed(tmp_path)
    for name in ("metrics.json", "mine.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("x")
    claimed(tmp_path, "seed=2", "overwrite=true")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hydra", "mine.txt"]
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("overrides", [(), ("overwrite=true",), ("ckpt_path=last",)])
def test_a_requeued_job_goes_on_with_its_own_run_unasked(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = claimed(tmp_path, *overrides, job=SlurmJob("5_3"))
    assert decide(config, tmp_path, SlurmJob("5_3", restarts=1)) is RunState.RESUME


def test_only_a_requeued_job_does_and_only_with_its_own_run(tmp_path: Path) -> None:
    config = claimed(tmp_path, job=SlurmJob("7"))
    for job in (None, SlurmJob("7"), SlurmJob("8", restarts=1)):
        with pytest.raises(ValueError, match="ckpt_path=last"):
            decide(config, tmp_path, job)
    with pytest.raises(ValueError, match="another config"):
        decide(run_config(compose_config("seed=2")), tmp_path, SlurmJob("7", restarts=1))


def test_a_checkpoint_to_go_on_from_is_not_removed_with_its_run(tmp_path: Path) -> None:
    claimed(tmp_path)
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    path.write_text("x")
    with pytest.raises(ValueError, match="lies in the run that overwrite=true removes"):
        decide(run_config(compose_config(f"ckpt_path={path}", "overwrite=true")), tmp_path)
    assert decide(run_config(compose_config(f"ckpt_path={path}")), tmp_path / "new") is RunState.FRESH


def made(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"the user's {name}")


def contents(directory: Path) -> dict[str, str]:
    """Every file, but those of ``.hydra``."""
    found = [path for path in directory.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    return {str(path.relative_to(directory)): path.read_text() for path in found}


@pytest.mark.parametrize(
    "name",
    [
        "model/config.json", "predictions.tsv", "figures/mine.png", "checkpoints/epoch=3.ckpt", "metrics.json",
        "evaluation/notes.txt", "plan.csv", "curve.csv", "history.parquet", "submission/a.tsv", "calibration/a.png",
        ".hydra/config.yaml", "model.part/x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("overrides", [(), ("overwrite=true",), ("ckpt_path=last",)])
def test_a_folder_that_holds_no_run_keeps_its_files(tmp_path: Path, name: str, overrides: tuple[str, ...]) -> None:
    made(tmp_path, name, "data.csv", "notes/a.txt")
    before = contents(tmp_path)
    where = name if name.startswith(".hydra") else name.split("/")[0]
    with pytest.raises(ValueError, match=rf"hydra.run.dir=.*: {tmp_path / where} is there and is no run's.*move it"):
        decide(run_config(compose_config(*overrides)), tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_with_other_files_is_free_and_so_is_one_of_a_logger_that_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "check_logger", lambda name: None)  # whether or not its package is installed
    made(tmp_path, "data.csv", "src/a.py", "tensorboard/events.out.tfevents.1")
    assert decide(run_config(compose_config()), tmp_path) is RunState.FRESH
    with pytest.raises(ValueError, match="tensorboard is there and is no run's"):
        decide(run_config(compose_config("logger=tensorboard")), tmp_path)
    (tmp_path / "model").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="model is there and is no run's"):
        decide(run_config(compose_config()), tmp_path)


OF_THE_RUN = ("metrics.json", "figures/buckets.png", "checkpoints/last.ckpt", "checkpoints/best.ckpt.part", "plan.csv")
OF_OTHERS = (
    "figures/mine.png", "checkpoints/kept.ckpt", "model/notes.txt", "evaluation/validation/notes.txt", "mine.txt",
    "tensorboard/mine.txt", "wandb/run-1-other/a", "mlruns/1/other/b",
)  # fmt: skip


def test_overwriting_removes_what_the_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    claimed(tmp_path)
    written(tmp_path).add(["model/config.json", "model/unheard_of.bin"])
    evaluated = ("evaluation/validation/metrics.json", "evaluation/validation/figures/buckets.png", "calibration/a.png")
    logged = ("tensorboard/events.out.tfevents.1", "wandb/offline-run-2-abc/x", "mlruns/1/def/meta.yaml")
    made(tmp_path, *OF_THE_RUN, *evaluated, *logged, "model/config.json", "model/unheard_of.bin", *OF_OTHERS)
    for folder, run_id in (("wandb", "abc"), ("mlruns", "def")):
        (tmp_path / folder / "run_id.txt").write_text(run_id)
    claimed(tmp_path, "seed=2", "overwrite=true")
    assert sorted(contents(tmp_path)) == sorted(OF_OTHERS)
    clear(tmp_path)
    assert sorted(contents(tmp_path)) == sorted(OF_OTHERS)
    assert not (tmp_path / ".hydra").exists()


def test_a_run_without_a_list_is_overwritten_by_the_names_that_runs_write(tmp_path: Path) -> None:
    claimed(tmp_path)
    (tmp_path / LISTED).unlink()
    made(tmp_path, *OF_THE_RUN, "model/model.safetensors", "model/tokenizer.json", "submission/MRPC.tsv", *OF_OTHERS)
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path) is RunState.RESUME
    claimed(tmp_path, "overwrite=true")
    assert sorted(contents(tmp_path)) == sorted(OF_OTHERS)


def test_a_file_beside_an_old_run_that_the_new_one_would_write_over_is_named(tmp_path: Path) -> None:
    claimed(tmp_path)
    made(tmp_path, "model/README.md", "metrics.json")
    for override in ("overwrite=true", "ckpt_path=last"):
        with pytest.raises(ValueError, match=r"model/README.md is there and is not that run's"):
            decide(run_config(compose_config(override)), tmp_path)
    (tmp_path / "model/README.md").rename(tmp_path / "model/mine.md")
    made(tmp_path, "checkpoints")
    with pytest.raises(ValueError, match=r"checkpoints is there and is not that run's"):
        decide(run_config(compose_config("overwrite=true")), tmp_path)


def test_a_clearing_that_was_cut_short_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed(tmp_path)
    made(tmp_path, *OF_THE_RUN)
    unlink = Path.unlink
    left = [3]

    def dies(path: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            clear(tmp_path)
    claimed(tmp_path, "overwrite=true")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("key", "value", "more"),
    [
        ("encoder.pretrained", "model", ("encoder=custom", "task=mrpc")),
        ("method.teacher", ".", ("method=distilled",)),
        ("method.match", ".", ("method=dense",)),
        ("task.train", "predictions.tsv", ("task=custom", "task.text=a", "task.label=b", "task.dev=0.1")),
    ],
)
def test_what_a_run_reads_is_not_removed_for_it(tmp_path: Path, key: str, value: str, more: tuple[str, ...]) -> None:
    claimed(tmp_path)
    made(tmp_path, "plan.csv", "predictions.tsv", "model/config.json")
    written(tmp_path).add(["model/config.json"])
    with pytest.raises(ValueError, match=rf"{key}=.* lies in the run that overwrite=true removes"):
        decide(run_config(compose_config(*more, f"{key}={tmp_path / value}", "overwrite=true")), tmp_path)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("overrides", [(), ("ckpt_path=last",), ("overwrite=true",), ("seed=2",)])
def test_a_run_that_is_under_way_is_left_alone(
    tmp_path: Path, overrides: tuple[str, ...], other: subprocess.Popen[bytes]
) -> None:
    claimed(tmp_path)
    started = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
    held = replace(Holder.here(), pid=other.pid, started=started)
    (tmp_path / LOCK).write_text(json.dumps(asdict(held)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"is in use: process {other.pid} on .* since 20\S+ \S+ trains there") as told:
        decide(run_config(compose_config(*overrides)), tmp_path)
    assert "ckpt_path=last" not in str(told.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other.kill()
    other.wait()
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path) is RunState.RESUME


def test_what_differs_is_named(tmp_path: Path) -> None:
    claimed(tmp_path, "trainer.max_epochs=6")
    other = ("trainer.max_epochs=8", "optim.lr=0.5", "seed=3", "batch_size=4", "ckpt_path=last")
    with pytest.raises(
        ValueError,
        match=r"another config; add .*\(optim.lr: .*; trainer.max_epochs: 6 there, 8 here; .*; and 1 more",
    ):
        decide(run_config(compose_config(*other)), tmp_path)


def marker(directory: Path) -> dict[str, Any]:
    return json.loads((directory / MARKER).read_text())


def test_a_key_that_an_older_run_did_not_know_has_its_default(tmp_path: Path) -> None:
    claimed(tmp_path)
    held = marker(tmp_path)
    held["digest"] = "of another version"
    del held["given"]["optim"]["eps"], held["given"]["distill"]
    held["given"]["gone"] = {"away": 1}
    (tmp_path / MARKER).write_text(json.dumps(held))
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path) is RunState.RESUME
    with pytest.raises(ValueError, match=r"\(optim.eps: 1e-08 there, 0.001 here\)"):
        decide(run_config(compose_config("ckpt_path=last", "optim.eps=1e-3")), tmp_path)


OWN = ("recipe=none", "task=custom", "task.text=text", "task.label=label", "encoder=custom", "task.max_length=16")


@pytest.fixture
def data(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a training file and an encoder, in which the test runs."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    (folder / "three.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    shutil.copytree(encoder, folder / "enc")
    monkeypatch.chdir(folder)
    return folder


def begin(directory: Path, *overrides: str) -> RunState:
    """What ``train`` does with the directory before a model is loaded."""
    cfg = compose_config(*(text for text in TINY if "encoder." not in text and "task." not in text), *OWN, *overrides)
    config = run_config(cfg)
    resumes = decide(config, directory) is RunState.RESUME
    facts, _ = read_facts(config, read_inputs(config, directory, resumes))
    if resumes:
        check_same_data(directory, facts)
    return claim(config, directory, cfg, None, facts=facts)


HERE = ("task.train=three.csv", "task.dev=0.2", "encoder.pretrained=enc")


@pytest.mark.parametrize("old", [False, True])
def test_a_run_goes_on_however_its_paths_are_spelled(data: Path, tmp_path: Path, old: bool) -> None:
    begin(tmp_path / "run", *HERE)
    if old:
        held = marker(tmp_path / "run")
        record = held["given"] | {"task": held["given"]["task"] | {"train": f"{data}/three.csv", "labels": ["a", "b"]}}
        (tmp_path / "run" / MARKER).write_text(json.dumps({"digest": "old", "job": None, "config": record}))
    spelled = ("task.train=../data/three.csv", "task.dev=0.2", f"encoder.pretrained={data}/enc", "ckpt_path=last")
    assert begin(tmp_path / "run", *spelled) is RunState.RESUME
    scratch = tmp_path / "scratch"
    shutil.copytree(data, scratch)
    encoder = f"{data}/enc" if old else f"{scratch}/enc"
    staged = (f"task.train={scratch}/three.csv", "task.dev=0.2", f"encoder.pretrained={encoder}", "ckpt_path=last")
    assert begin(tmp_path / "run", *staged) is RunState.RESUME


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("rows", r"train: 32 rows there, 40 here; validation: 8 rows there, 10 here"),
        ("text", "other texts in as many rows"),
        ("label", "other labels in as many rows|other texts in as many rows"),
        ("weights", "encoder.pretrained holds something else"),
    ],
)
def test_a_run_does_not_go_on_with_other_contents(data: Path, tmp_path: Path, change: str, told: str) -> None:
    begin(tmp_path / "run", *HERE)
    text = (data / "three.csv").read_text()
    if change == "weights":
        path = data / "enc/model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    elif change == "rows":
        (data / "three.csv").write_text(text + "".join(f"more {i},{'ab'[i % 2]}\n" for i in range(10)))
    else:
        (data / "three.csv").write_text(text.replace("text 7,b", "text x,b" if change == "text" else "text 7,a"))
    with pytest.raises(ValueError, match=rf"another input; add hydra.run.dir.*\(.*({told}).*\)"):
        begin(tmp_path / "run", *HERE, "ckpt_path=last")
    with pytest.raises(ValueError, match=r"\(task.dev: 0.2 there, 0.3 here\)"):
        begin(tmp_path / "run", HERE[0], "task.dev=0.3", HERE[2], "ckpt_path=last")
