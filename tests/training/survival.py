"""Runs that are cut at a chosen moment, and what a cut run must end with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sharcs_pl.pipeline import build
from tests.conftest import TINY, train_run

OPTIONS = (*TINY, "encoder.dropout=0.1", "checkpoint.every_n_steps=1", "width.bounds=[[0.5,1],[0,0.5]]")
"""3 epochs of 3 to 5 steps, the last two routed; every step is saved. With dropout, whose noise must come back too."""

FILES = ("metrics.json", "metrics.csv", "plan.csv", "predictions.tsv", "history.parquet")


class Cut(Exception):
    """What ends a run at a chosen moment."""


def run(directory: Path, *overrides: str) -> dict[str, Any]:
    return train_run(directory, *OPTIONS, *overrides)


def run_with(directory: Path, callback: Callback, *overrides: str) -> dict[str, Any]:
    """A run with one more callback, before those that save."""
    with pytest.MonkeyPatch.context() as patch:
        original = build.build_callbacks
        patch.setattr(build, "build_callbacks", lambda *args: [callback, *original(*args)])
        return run(directory, *overrides)


def whole_run(factory: pytest.TempPathFactory, *overrides: str) -> Path:
    """The run directory of a run that nothing cut, with a cache of its own."""
    folder = factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        run(folder / "run", *overrides)
    return folder / "run"


def assert_goes_on(directory: Path, whole: Path, epoch: int, step: int, *overrides: str) -> None:
    """Cut a run before a step, go on from it, and compare its end with the whole run's."""
    with pytest.raises(Cut):
        run_with(directory, at("on_train_batch_start", epoch, cut, step), *overrides)
    assert checkpoint(directory)["global_step"] == step
    run(directory, *overrides, "ckpt_path=last")
    assert_same_end(whole, directory)


def at(hook: str, epoch: int, action: Callable[[], Any], step: int | None = None) -> Callback:
    """A callback that acts once in a hook of an epoch, and of a step counted over the whole run where one is given."""

    def act(self: Callback, trainer: Any, *args: Any) -> None:
        here = trainer.current_epoch == epoch and step in (None, trainer.global_step)
        if here and not getattr(self, "done", False):
            self.done = True  # pyright: ignore[reportAttributeAccessIssue]
            action()

    return type("At", (Callback,), {hook: act})()


def cut() -> None:
    raise Cut


def checkpoint(directory: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(directory / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same_end(one: Path, other: Path) -> None:
    """The same files byte for byte, and the same last and best weights."""
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("last", "best"):
        first, second = checkpoint(one, name)["state_dict"], checkpoint(other, name)["state_dict"]
        assert first.keys() == second.keys()
        assert [key for key in first if not torch.equal(first[key], second[key])] == []
    assert not list(other.rglob("*.part"))
