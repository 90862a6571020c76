"""Two stages: the best epoch of the first goes on, and its answers are what the second learns."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sharcs_pl.data.table import TokenTable
from sharcs_pl.training.stages import RewindToBest
from tests.training.survival import assert_goes_on, run_with, whole_run

STAGES = (
    "hardness.trains=all", "distill=frozen", "method.cut=heads_ffn", "width.reorder_after=2",
    "hardness.warmup_epochs=2", "hardness.rewind=true", "optim.restart=true", "trainer.max_epochs=4",
    "width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.5,1],[0.4,1],[0,1]]",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory, *STAGES)


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 3), (2, 4), (2, 5), (3, 7)])
def test_a_run_cut_in_any_phase_goes_on_exactly(tmp_path: Path, whole: Path, epoch: int, step: int) -> None:
    assert_goes_on(tmp_path / "cut", whole, epoch, step, *STAGES)


class Seen(Callback):
    """Copies of the weights and moments at the start of each epoch, and of a weight at its end, before it is rewound;
    in epoch 2 the teacher's answers by sample, beside those that the full width gave when the epoch began."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.moments: list[Tensor] = []
        self.ended: list[Tensor] = []
        self.taught: dict[int, Tensor] = {}
        self.full: dict[int, Tensor] = {}

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.weights.append({name: x.clone() for name, x in pl_module.model.state_dict().items()})
        state = trainer.optimizers[0].state
        moments = [state[p]["exp_avg"].flatten() for p in pl_module.parameters() if p in state]
        self.moments.append(torch.cat(moments or [torch.zeros(0)]))
        if trainer.current_epoch == 2:
            self.full = answers(pl_module.model, trainer.datamodule.train_table)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.ended.append(pl_module.model.encoder.classifier.weight.detach().clone())

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.taught |= {
            uid: lesson
            for batch in self.step.batches
            if batch.teacher is not None
            for uid, lesson in zip(batch.uids.tolist(), batch.teacher, strict=True)
        }

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.step = batch


@torch.no_grad()
def answers(model: Any, table: TokenTable) -> dict[int, Tensor]:
    """The full width's logits of each text by itself, without dropout."""
    model.eval()
    found = {}
    for uid in range(len(table)):
        inputs = table.collate([uid])
        inputs.pop("labels")
        found[uid] = model(**inputs, rungs=model.ladder.top).logits[0]
    model.train()
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A run in which the first epoch is the best of the first stage, of two equal ones."""
    callback = Seen()
    run_with(tmp_path_factory.mktemp("seen"), callback, *STAGES, "width.reorder_after=null")
    return callback


def test_the_second_stage_begins_with_the_best_epoch_of_the_first(seen: Seen) -> None:
    after_first, then = seen.weights[1], seen.weights[2]
    assert [name for name in then if not torch.equal(then[name], after_first[name])] == []
    assert torch.equal(seen.moments[2], seen.moments[1])
    assert not torch.equal(seen.ended[1], seen.ended[0])  # the second epoch had moved them


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.6, 0.7, 0.65], 1), ([0.6, 0.6, 0.6], 0), ([math.nan, 0.1, math.nan], 1), ([0.1, 0.2, 0.3], 2)],
)
def test_the_earliest_best_of_the_first_stage_is_kept(values: list[float], best: int, tmp_path: Path) -> None:
    saved, loaded = [], []

    def save(path: Path, weights_only: bool) -> None:
        saved.append(trainer.current_epoch)

    strategy = SimpleNamespace(
        broadcast=lambda value: value,
        reduce_boolean_decision=lambda decision, all=True: decision,
        load_checkpoint=lambda path, weights_only: {"state_dict": saved[-1]},
        load_optimizer_state_dict=lambda kept: None,
    )
    trainer: Any = SimpleNamespace(strategy=strategy, is_last_batch=True, save_checkpoint=save, callback_metrics={})
    module: Any = SimpleNamespace(load_state_dict=loaded.append)
    rewind = RewindToBest(tmp_path, 3, "val/rung_1")
    for trainer.current_epoch, value in enumerate([*values, 0.9]):  # the second stage's first epoch changes nothing
        trainer.callback_metrics = {"val/rung_1": torch.tensor(value)}
        rewind.on_train_epoch_end(trainer, module)
    assert (rewind.best_epoch, saved[-1]) == (best, best)
    assert loaded == ([] if best == 2 else [best])


def test_every_text_is_taught_by_what_the_full_width_answered_then(seen: Seen) -> None:
    assert seen.taught.keys() == seen.full.keys()
    assert len(seen.taught) == 48
    for uid, lesson in seen.taught.items():
        torch.testing.assert_close(lesson, seen.full[uid], msg=str(uid))
