"""A run whose loss, weights or answers are no longer numbers stops, and nothing good is lost."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sharcs_pl.config.errors import LONGEST_MESSAGE
from sharcs_pl.core.errors import Diverged
from sharcs_pl.training.divergence import BEHIND, remedy
from tests.conftest import TINY, train_run
from tests.processes import run_ranks
from tests.training.survival import checkpoint, run, run_with


class Poison(Callback):
    """Makes something of a run NaN at a step of the whole run: in ``loss`` what the step returns, in ``weights`` a
    parameter after the step."""

    def __init__(self, step: int, what: str = "loss", value: float = math.nan, only_rank: int | None = None) -> None:
        self.step, self.what, self.value, self.only_rank = step, what, value, only_rank
        self.last = self.validations = 0

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validations += 1

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
        self.last = trainer.global_step
        if trainer.global_step != self.step or self.only_rank not in (None, trainer.global_rank):
            return
        if self.what == "loss":
            outputs["objective"] = torch.tensor(self.value)
        else:
            with torch.no_grad():
                next(module.model.parameters()).view(-1)[0] = self.value


def finite(state: dict[str, Any]) -> bool:
    return all(bool(x.isfinite().all()) for x in state["state_dict"].values() if x.is_floating_point())


def test_a_learning_rate_that_is_far_too_high_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(Diverged) as caught:
        run(tmp_path / "run", "optim.lr=1e30")
    told = str(caught.value)
    for piece in ("the loss is nan", "epoch 0, step", "learning rate", "a smaller optim.lr"):
        assert piece in told, told
    assert len(told) <= LONGEST_MESSAGE
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not [path for path in (tmp_path / "run").rglob("*.ckpt") if not finite(torch.load(path, weights_only=True))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_ends_the_step_before_anything_is_kept_of_it(tmp_path: Path, value: float) -> None:
    with pytest.raises(Diverged, match=rf"the loss is {value} in epoch 1, step 2 \(step 6 of the run\)"):
        run_with(tmp_path / "run", Poison(6, value=value))
    assert checkpoint(tmp_path / "run")["global_step"] == 5
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0"]


@pytest.mark.parametrize(
    ("step", "every", "last"),
    [
        pytest.param(6, "null", 7, id="one step later"),
        pytest.param(6, "1", 6, id="before a checkpoint"),
        pytest.param(3, "null", 3, id="before validation"),
    ],
)
def test_a_loss_on_a_gpu_is_read_behind_it_and_before_anything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, every: str, last: int
) -> None:
    monkeypatch.setitem(BEHIND, "cpu", 1)
    poison = Poison(step)
    with pytest.raises(Diverged, match=rf"the loss is nan in epoch \d, step \d \(step {step} of the run\)"):
        run_with(tmp_path / "run", poison, f"checkpoint.every_n_steps={every}")
    assert (poison.last, poison.validations) == (last, int(step > 3))
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())) if step > 3 else []
    assert [row["epoch"] for row in rows] == ["0"][: step > 3]


@pytest.mark.parametrize("options", [(), ("checkpoint.every_n_steps=null",)])
def test_weights_that_are_no_numbers_never_become_a_checkpoint(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The loss of the step that spoils them is a number; where steps are saved it shows at once, else in validation or
    in the next step's loss."""
    with pytest.raises(Diverged, match=r"the (weights|answers|loss)"):
        run_with(tmp_path / "run", Poison(5, "weights"), *options)
    left = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert left
    for path in left:
        assert finite(torch.load(path, weights_only=True)), path


@pytest.mark.parametrize("last", [3, 11])
def test_answers_that_are_no_numbers_stop_the_run_after_validation(tmp_path: Path, last: int) -> None:
    """The last step of an epoch, and of the run, spoils the weights: only validation can tell."""
    with pytest.raises(Diverged, match="the answers to the validation texts are not all finite after epoch"):
        run_with(tmp_path / "run", Poison(last, "weights"), "checkpoint.every_n_steps=null")
    assert not (tmp_path / "run" / "model").exists()


def test_half_precision_is_named_as_a_cause() -> None:
    trainers: list[Any] = [SimpleNamespace(precision=name) for name in ("32-true", "bf16-mixed", "16-mixed", "16-true")]
    told = [remedy(trainer) for trainer in trainers]
    assert ["bf16-mixed instead of" in text for text in told] == [False, False, True, True]


def test_the_run_can_be_gone_on_with_elsewhere_at_another_rate(tmp_path: Path) -> None:
    with pytest.raises(Diverged) as caught:
        run_with(tmp_path / "run", Poison(6), "optim.lr=5e-3")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert f"ckpt_path={last}" in str(caught.value)
    assert "hydra.run.dir=" in str(caught.value)
    metrics = run(tmp_path / "other", "optim.lr=1e-4", f"ckpt_path={last}")
    assert metrics["steps"] > 6
    groups = checkpoint(tmp_path / "other")["optimizer_states"][0]["param_groups"]
    assert {group["peak_lr"] for group in groups} == {1e-4}


def test_without_a_checkpoint_it_is_begun_again(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="overwrite=true begins again"):
        run_with(tmp_path / "run", Poison(1), "checkpoint.save_last=false")


def _rank(rank: int, directory: str, cache: str, what: str) -> str:
    import os

    from sharcs_pl.pipeline import build

    os.environ["SHARCS_CACHE"] = cache
    original = build.build_callbacks
    build.build_callbacks = lambda *args: [Poison(6, what, only_rank=1 if what == "loss" else None), *original(*args)]
    options = (*TINY, "trainer.devices=2", "checkpoint.every_n_steps=1", "width.bounds=[[0.5,1],[0,0.5]]")
    own = Path(directory) if rank == 0 else Path(directory) / f"of_rank_{rank}"
    with pytest.raises((Diverged, SystemExit)) as caught:
        train_run(own, *options)
    assert isinstance(caught.value, SystemExit) == (rank > 0), "one process speaks for all"
    return str(caught.value.__cause__)


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_all_processes_stop_at_the_same_step(tmp_path: Path, what: str) -> None:
    told = run_ranks(2, _rank, str(tmp_path / "run"), str(tmp_path / "cache"), what)
    assert told[0] == told[1]
    assert f"the {what} " in told[0]
    assert "step 6 of the run" in told[0]
    assert checkpoint(tmp_path / "run")["global_step"] == 5
