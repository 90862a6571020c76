from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sharcs_pl.training.callbacks import (
    CurveFiles,
    EpochFractionSchedule,
    PlainProgressBar,
    SharcsProgressBar,
    append_epoch,
    append_row,
    progress_bar,
)
from tests.training.survival import run

MODULE = L.LightningModule()


def fake_trainer(epoch: int = 0, steps: int = 10, epochs: int = 4) -> Any:
    groups = [{"lr": 0.0, "peak_lr": 1.0}, {"lr": 0.0, "peak_lr": 10.0}]
    optimizer = SimpleNamespace(param_groups=groups)
    return SimpleNamespace(
        current_epoch=epoch,
        num_training_batches=steps,
        max_epochs=epochs,
        optimizers=[optimizer],
    )


@pytest.mark.parametrize(("epoch", "step", "factor"), [(0, 0, 0.0), (0, 5, 0.5), (1, 0, 1.0), (2, 5, 0.5)])
def test_every_group_follows_its_own_peak(epoch: int, step: int, factor: float) -> None:
    trainer = fake_trainer(epoch)
    EpochFractionSchedule(0.25).on_train_batch_start(trainer, MODULE, None, step)
    assert [g["lr"] for g in trainer.optimizers[0].param_groups] == pytest.approx([factor, 10 * factor])


def test_a_restart_begins_anew_with_the_warm_up() -> None:
    trainer, schedule, rates = fake_trainer(), EpochFractionSchedule(0.25, restart_after=2), []
    for trainer.current_epoch in range(4):
        schedule.on_train_batch_start(trainer, MODULE, None, 5)
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([1.0, 1 / 3, 1.0, 1 / 3])


@pytest.mark.parametrize(
    ("notebook", "widgets", "kind"),
    [(False, False, SharcsProgressBar), (True, True, SharcsProgressBar), (True, False, PlainProgressBar)],
)
def test_a_notebook_without_widgets_gets_a_bar_that_it_can_show(
    notebook: bool, widgets: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharcs_pl.training.callbacks.get_console", lambda: SimpleNamespace(is_jupyter=notebook))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if widgets else None)
    assert type(progress_bar()) is kind


def test_the_loss_that_is_shown_does_not_depend_on_accumulation(tmp_path: Path) -> None:
    """Without learning, so that the same losses are seen."""
    shown = []
    for number in (1, 2):
        run(tmp_path / str(number), "optim.lr=0", f"trainer.accumulate_grad_batches={number}")
        with (tmp_path / str(number) / "metrics.csv").open(newline="") as file:
            shown.append([float(row["train/loss"]) for row in csv.DictReader(file)])
    assert len(shown[0]) == 3
    assert shown[0] == pytest.approx(shown[1])


def test_losses_are_added_up_in_order_however_late_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharcs_pl.training.callbacks._MOST_UNREAD", 2)
    curves, expected, trainer = CurveFiles(tmp_path, ["1"]), 0.0, fake_trainer()
    for number, loss in enumerate(torch.tensor([0.1, 0.7, 1e-3, 0.3, 11.0])):
        curves.on_train_batch_end(trainer, MODULE, {"objective": loss}, None, number)
        assert len(curves._losses) < 2
        expected += float(loss)
    assert curves.state_dict() == {"loss_sums": [expected], "steps": 5}
    assert curves.state_dict() == {"loss_sums": [expected], "steps": 5}


def test_the_bar_reads_the_loss_a_few_times_a_second_and_at_an_epoch_s_end() -> None:
    bar, reads = SharcsProgressBar(), []

    class Trainer:
        is_last_batch, training, loggers = False, False, ()

        @property
        def progress_bar_metrics(self) -> dict[str, float]:
            reads.append(1)
            return {"loss": len(reads), "val/routed": 0.5}

    trainer: Any = Trainer()
    assert bar.get_metrics(trainer, MODULE) == bar.get_metrics(trainer, MODULE) == {"loss": 1, "routed": 0.5}
    trainer.is_last_batch = True
    assert bar.get_metrics(trainer, MODULE)["loss"] == 2


def test_rows_of_an_interrupted_epoch_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for row in ({"epoch": 0, "a": 1}, {"epoch": 1, "a": 2}, {"epoch": 1, "a": 3, "b": 4}):
        append_row(path, row)
    assert list(csv.DictReader(path.read_text().splitlines())) == [
        {"epoch": "0", "a": "1", "b": ""},
        {"epoch": "1", "a": "3", "b": "4"},
    ]
    append_row(path, {"epoch": 0, "a": 9})
    assert list(csv.DictReader(path.read_text().splitlines())) == [{"epoch": "0", "a": "9"}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_epochs_of_the_history_are_replaced_alike(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    for epoch, score in ((0, 0.1), (1, 0.2), (1, 0.3)):
        append_epoch(path, pa.table({"epoch": [epoch], "score": [score]}), epoch)
    assert pq.read_table(path).to_pydict() == {"epoch": [0, 1], "score": [0.1, 0.3]}
