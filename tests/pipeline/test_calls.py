"""The words of a call: what was given as an argument is told as one, and nothing else is touched."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.core.errors import Diverged, Interrupted
from sharcs_pl.pipeline.calls import Call

NAMES = {"task.train": "train", "task.dev": "dev", "task.text": "text", "hydra.run.dir": "directory"}


def call() -> Call:
    found = Call(RunConfig, dict(NAMES), {"ckpt_path=last": "resume=True"})
    found.take({"text": "review"}, {"optim.lr": "fast"})
    found.take_rows("task.train", {"review": ["a", "b"]}, lambda: (["review"], []))
    return found


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("task.text=review and task.dev=0.1", "text='review' and dev=0.1"),
        ("task.dev is missing, not task.dev_size or my.task.dev", "dev is missing, not task.dev_size or my.task.dev"),
        ("optim.lr=fast; add ckpt_path=last, or overwrite=true", "optim.lr='fast'; add resume=True, or overwrite=True"),
        ("give hydra.run.dir=<another folder>", "give directory=<another folder>"),
        ("trueish=trueness a=null", "trueish=trueness a=None"),
    ],
)
def test_messages(message: str, told: str) -> None:
    assert call().spelled(message) == told


def test_rows_are_told_by_their_argument(tmp_path: Path) -> None:
    found = call()
    word = next(word for word in found.overrides(tmp_path) if word.startswith("task.train="))
    found.write()
    (path,) = tmp_path.iterdir()
    assert word == f'task.train="{path}"'
    assert found.spelled(f"task.train={path}: {path.name}, row 2") == "train: train, row 2"


def test_of_what_ends_a_call_a_signal_of_the_keyboard_and_a_divergence_keep_their_kind() -> None:
    with pytest.raises(KeyboardInterrupt), call().errors():
        raise Interrupted(signal.SIGINT)
    with pytest.raises(SystemExit) as ended, call().errors():
        raise Interrupted(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    with pytest.raises(Diverged, match=r"^the loss is nan; overwrite=True$"), call().errors():
        raise Diverged("the loss is nan; overwrite=true")
    with pytest.raises(KeyError), call().errors():
        raise KeyError("a mistake of the programmer")


def test_a_key_is_given_once() -> None:
    with pytest.raises(ValueError, match=r"^text is given twice"):
        call().take({}, {"task.text": "other"})
    with pytest.raises(ValueError, match=r"^text is given twice"):
        call().take({"text": "other"}, {})
    with pytest.raises(ValueError, match=r"^train is given twice"):
        call().take({}, {"task.train": "x.csv"})
    found = call()
    found.take({}, {"task.dev": "x.csv"})
    for rows in ("y.csv", 0.1, {"review": ["a"]}):
        with pytest.raises(ValueError, match=r"^dev is given twice, once by its key; give one of them$"):
            found.take_rows("task.dev", rows, lambda: (["review"], []))
