"""``fit`` trains as ``sharcs train`` does, keeps its rows, and leaves the process as it was."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import hydra
import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase
from transformers.utils import logging as transformers_logging

from sharcs_pl import TrainedRun, fit, open_run
from sharcs_pl.core.written import Written
from sharcs_pl.training.callbacks import CurveFiles
from tests.commands import run_line
from tests.conftest import TINY
from tests.pipeline.rows import LIKE_TINY, OWN, ROWS, options

SAME = ("metrics.json", "predictions.tsv", "metrics.csv", "plan.csv", "curve.csv", "history.parquet")


def of_polars(rows: Any) -> Any:
    return pytest.importorskip("polars").DataFrame(rows)


KINDS: dict[str, Callable[[Any], Any]] = {
    "pandas": pd.DataFrame,
    "polars": of_polars,
    "datasets": datasets.Dataset.from_list,
    "list": list,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def by_command(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the command on the same rows as a file."""
    folder = tmp_path_factory.mktemp("command")
    pd.DataFrame(ROWS).to_csv(folder / "rows.csv", index=False)
    words = [f"{key}={str(value).lower()}" for key, value in LIKE_TINY.items()]
    own = ["task=custom", "task.train=rows.csv", "task.dev=0.3", "task.text=review", "task.label=stars"]
    own += ["encoder=custom", f"encoder.pretrained={encoder}", "hydra.run.dir=run"]
    env = dict(os.environ) | {"SHARCS_CACHE": str(folder / "cache")}
    done = run_line(["sharcs_pl.train", *words, *own], cwd=folder, env=env, kind="loaded")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_command(kind: str, by_command: Path, encoder: Path) -> None:
    run = fit(KINDS[kind](ROWS), encoder=encoder, directory="run", **OWN)
    assert isinstance(run, TrainedRun)
    for name in SAME:
        assert (run.directory / name).read_bytes() == (by_command / name).read_bytes(), name
    (data,) = {name for name in files(run.directory) if name.startswith("data/train-")}
    assert files(run.directory) == files(by_command) | {data, "data/.sharcs.json"}
    assert open_run("run").metrics == run.metrics


def test_a_second_run_in_the_process_is_another_of_the_same_numbers(by_command: Path, encoder: Path) -> None:
    torch.rand(7)
    for directory in ("one", "two"):
        run = fit(ROWS, encoder=encoder, directory=directory, **OWN)
        assert (run.directory / "metrics.json").read_bytes() == (by_command / "metrics.json").read_bytes()


def declared(several: bool = False) -> Any:
    """`ROWS` as a dataset that declares its classes against the order of the alphabet."""
    names = datasets.ClassLabel(names=["good", "bad"])
    kind = datasets.List(names) if several else names
    labels = [names.str2int(row["stars"]) for row in ROWS]
    cells = {"review": [row["review"] for row in ROWS], "stars": [[each] for each in labels] if several else labels}
    return datasets.Dataset.from_dict(cells, datasets.Features({"review": datasets.Value("string"), "stars": kind}))


@pytest.mark.parametrize(
    ("several", "changes", "labels"),
    [
        (False, {}, ["good", "bad"]),
        (False, {"task.labels": ["bad", "good"]}, ["bad", "good"]),
        (False, {"overrides": ["task.labels=[bad,good]"]}, ["bad", "good"]),
        (True, {"task.multi_label": True}, ["good", "bad"]),
    ],
)
def test_declared_classes_keep_their_order(
    several: bool, changes: dict[str, Any], labels: list[str], encoder: Path
) -> None:
    run = fit(declared(several), encoder=encoder, directory="run", **options(**changes))
    names: Any = run.model().config.id2label
    assert list(names.values()) == labels
    again = fit(declared(several), encoder=encoder, directory="run", resume=True, **options(**changes))
    assert again.metrics == run.metrics


def test_a_built_in_task_needs_no_rows() -> None:
    run = fit(overrides=list(TINY), seed=2)
    assert run.metrics["task"] == "graded"
    assert run.metrics["seed"] == 2
    assert run.directory.parent == Path.cwd() / "runs" / "graded-tiny-sharcs"
    assert not (run.directory / "data").exists()


def state() -> dict[str, Any]:
    """What a call may not change in its process."""
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "words": list(sys.argv),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "levels": {name: logging.getLogger(name).level for name in ("", "lightning.pytorch", "lightning.fabric")},
        "handlers": list(logging.getLogger().handlers),
        "bars": transformers_logging.is_progress_bar_enabled(),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "kernels": torch.are_deterministic_algorithms_enabled(),
        "hydra": (GlobalHydra.instance().is_initialized(), str(getbase())),
    }


@pytest.fixture
def loud() -> None:
    """A process in which no test before has silenced the libraries."""
    transformers_logging.enable_progress_bar()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.INFO)


def test_the_process_is_left_as_it_was_found(loud: None, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    before = state()
    run = fit(ROWS, encoder=encoder, directory="run", **options(**{"trainer.deterministic": True}))
    assert state() == before
    run.evaluate(output="evaluated")
    run.calibrate(budget=0.8)
    assert state() == before


def test_an_error_leaves_the_process_as_it_was_found(loud: None, encoder: Path) -> None:
    before = state()
    with pytest.raises(ValueError, match="'starz'"):
        fit(ROWS, encoder=encoder, **options(label="starz"))
    with pytest.raises(ValueError, match="different classes"):
        fit([{"review": "a", "stars": "b"}, {"review": "b", "stars": "a"}], encoder=encoder, directory="run", **OWN)
    assert state() == before
    assert not list(Path.cwd().iterdir())


def test_within_an_application_of_hydra(encoder: Path) -> None:
    (Path.cwd() / "conf.yaml").write_text("mine: 1\n")
    with hydra.initialize_config_dir(str(Path.cwd()), version_base="1.2"):
        fit(ROWS, encoder=encoder, directory="run", **OWN)
        assert hydra.compose("conf").mine == 1
        assert str(getbase()) == "1.2"


def test_a_run_is_refused_gone_on_with_or_replaced(encoder: Path) -> None:
    run = fit(ROWS, encoder=encoder, directory="run", **OWN)
    metrics, before = run.metrics, {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds a run; add resume=True to go on with it, or overwrite=True to replace"):
        fit(ROWS, encoder=encoder, directory="run", **OWN)
    with pytest.raises(ValueError, match=r"another input; add directory=<another folder>.*63 rows there, 56 here"):
        fit(ROWS[:80], encoder=encoder, directory="run", resume=True, **OWN)
    assert {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()} == before
    assert fit(ROWS, encoder=encoder, directory="run", resume=True, **OWN).metrics == metrics
    fit(ROWS, encoder=encoder, directory="run", overwrite=True, **OWN)
    again = fit(ROWS[:80], encoder=encoder, directory="run", overwrite=True, **OWN)
    assert again.metrics != metrics
    assert len(list((run.directory / "data").glob("*.parquet"))) == 1, "the rows of the run that was replaced"
    again.evaluate()  # and those of this one are found


def test_rows_of_the_run_stay_whichever_way_they_are_given(encoder: Path) -> None:
    run = fit(ROWS, encoder=encoder, directory="run", **OWN)
    (data,) = (run.directory / "data").glob("*.parquet")
    user = data.with_name("mine.parquet")
    user.write_bytes(data.read_bytes())
    kept = files(run.directory / "data")
    fit(data.relative_to(Path.cwd()), encoder=encoder, directory="run", overwrite=True, **OWN)
    assert files(run.directory / "data") == kept
    fit(data, encoder=encoder, directory="run", resume=True, **OWN)
    assert files(run.directory / "data") == kept
    fit(user, encoder=encoder, directory="run", overwrite=True, **OWN)
    assert files(run.directory / "data") == {"mine.parquet"}, "the user's own"


def test_a_refused_call_leaves_the_list_as_it_was(encoder: Path) -> None:
    fit(ROWS, encoder=encoder, directory="run", **OWN)
    before = {name: (Path("run/data") / name).read_bytes() for name in files(Path("run/data"))}
    bad = [{"review": "a", "stars": "b"}, {"review": "b", "stars": "a"}]
    with pytest.raises(ValueError, match="different classes"):
        fit(bad, encoder=encoder, directory="run", overwrite=True, **OWN)
    assert {name: (Path("run/data") / name).read_bytes() for name in files(Path("run/data"))} == before


def test_an_interrupt_is_saved_and_gone_on_with(
    by_command: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        real, calls = CurveFiles.on_train_batch_end, []

        def interrupted(self: CurveFiles, *arguments: Any) -> None:
            real(self, *arguments)
            calls.append(1)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(CurveFiles, "on_train_batch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(ROWS, encoder=encoder, directory="run", **OWN)
    assert "to go on:\nfit(…, directory='run', resume=True)" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    (data,) = Path("run/data").glob("*.parquet")
    assert Written.into(data.parent).names() == {data.name}, "listed before it is written"
    run = fit(ROWS, encoder=encoder, directory="run", resume=True, **OWN)
    assert (run.directory / "metrics.json").read_bytes() == (by_command / "metrics.json").read_bytes()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "label": ({"label": "starz"}, r"^train: no column 'starz' \(did you mean 'stars'\?\)"),
    "no text": ({"text": None}, "^text is missing; name the column of the rows, such as text='review'$"),
    "no dev": ({"dev": None}, "^dev is missing: give a file, or a share such as dev=0.1$"),
    "share": ({"dev": 1.5}, "^dev=1.5 is no share between 0 and 1, such as 0.1, and no file$"),
    "file": ({"dev": "nowhere.csv"}, "^dev='nowhere.csv': there is no such file$"),
    "dev rows": ({"dev": [{"review": "a", "stars": "new"}]}, "^dev, row 1: label 'new' is none of the classes bad, "),
    "blank": ({"dev": [{"review": " ", "stars": "bad"}]}, "^dev, row 1: 'review' is empty$"),
    "encoder": ({"encoder": "nowhere/x"}, "^encoder='nowhere/x' is no folder here"),
    "choice": ({"encoder": "minilmm"}, r"^encoder='minilmm' is unknown; did you mean encoder=minilm\?"),
    "key": ({"optim.lrr": 1}, r"^there is no key optim.lrr; did you mean optim.lr\?$"),
    "value": ({"optim.lr": "x"}, "^optim.lr='x' must be a number, or auto$"),
    "type": ({"optim.lr": object()}, "^optim.lr is object, which no config holds"),
    "twice": ({"task.text": "review"}, "^text is given twice, once by its key; give one of them$"),
    "twice, a folder": ({"hydra.run.dir": "b"}, "^directory is given twice, once by its key; give one of them$"),
    "twice, rows": ({"task.train": "x.csv"}, "^train is given twice, once by its key; give one of them$"),
    "twice, going on": ({"resume": True, "ckpt_path": "y.ckpt"}, "^resume is given twice, once by its key; give one"),
    "twice, typed": ({"overrides": ["+batch_size=4"]}, "^batch_size is given twice, once in overrides; give one"),
    "twice, typed rows": ({"overrides": ["task.train=x.csv"]}, "^train is given twice, once in overrides; give one"),
    "processes": (
        {"trainer.devices": 2},
        "^trainer.devices=2 asks for more processes than this one; use sharcs",
    ),
    "text of overrides": ({"overrides": "seed=2"}, "^overrides='seed=2' is a text; give a list of them$"),
    "sweep": ({"overrides": ["seed=2,3"]}, "^seed=2,3: one value is expected"),
    "recipe": ({"recipe": "best"}, "^recipe='best' is unknown"),
    "directory": ({"directory": "a.txt/run"}, "^directory='a.txt/run': .*a.txt is a file; give a folder$"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_in_the_words_of_the_call(case: str, encoder: Path) -> None:
    Path("a.txt").touch()
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as found:
        fit(ROWS, **options(**{"encoder": encoder, "directory": "run", **changes}))
    assert "\n" not in str(found.value)
    assert files(Path.cwd()) == {"a.txt"}


def test_a_mistake_costs_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from sharcs_pl import fit
try:
    fit([{"a": "b", "c": i % 2} for i in range(9)], dev=0.3, text="a", label="c", encoder="minilmm")
except ValueError as error:
    print(error, "torch" in sys.modules)
"""
    done = run_line(["-c", code], cwd=tmp_path)
    assert done.stdout.startswith("encoder='minilmm' is unknown"), done.stderr
    assert done.stdout.endswith("False\n")


def test_where_there_is_no_run() -> None:
    with pytest.raises(ValueError, match=r"^nowhere does not exist; give a run directory, "):
        open_run("nowhere")
