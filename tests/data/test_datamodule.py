from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.core.plan import PlanConfig
from sharcs_pl.data.datamodule import SharcsDataModule
from tests.conftest import random_table


def make(bounds: list[tuple[float, float]] | None = None, **changes: Any) -> SharcsDataModule:
    table = random_table(20)
    rungs = 1 if bounds is None else len(bounds)
    plan = PlanConfig(batch_size=4, num_rungs=rungs, batches_per_step=2)
    return SharcsDataModule(table, {"validation": table}, plan, bounds, window=2, **changes)


def run_epoch(data: SharcsDataModule, score: np.ndarray) -> None:
    for step in data.train_dataloader():
        for batch in step.batches:
            rungs = torch.full_like(batch.uids, batch.rung)
            data.record(batch.uids, torch.from_numpy(score[batch.uids]), rungs, step.step)
    data.close_epoch()


BOUNDS = [(0.8, 1.0), (0.0, 0.8)]
SCORES = np.linspace(0, 1, 20).astype(np.float32)


def test_all_run_on_the_top_rung_until_the_window_is_over_and_by_score_after_it() -> None:
    data = make(BOUNDS)
    for _ in range(2):
        assert data.plan().memberships is None
        assert data.plan().bucket_sizes.tolist() == [0, 20]
        run_epoch(data, SCORES)
    plan = data.plan()
    assert plan.epoch == 2
    assert np.flatnonzero(plan.rungs == 0).tolist() == np.flatnonzero(np.float32(0.8) <= SCORES).tolist()


def test_a_longer_warm_up_keeps_the_window() -> None:
    data = make(BOUNDS, warmup_epochs=3)
    for scores in (1 - SCORES, SCORES, SCORES):
        assert data.plan().memberships is None
        run_epoch(data, scores)
    assert np.flatnonzero(data.plan().rungs == 0).tolist() == np.flatnonzero(np.float32(0.8) <= SCORES).tolist()


def test_without_bounds_nothing_is_ever_routed_and_steps_hold_as_many_samples() -> None:
    data = make()
    for _ in range(3):
        run_epoch(data, SCORES)
    plan = data.plan()
    assert plan.memberships is None
    assert [batch.rung for batch in plan.step(0)] == [0, 0]


def test_steps_of_another_run_are_matched_epoch_by_epoch() -> None:
    data = make(steps_per_epoch=(3, 7))
    assert data.plan().num_steps == 3
    run_epoch(data, SCORES)
    assert data.plan().num_steps == 7
    run_epoch(data, SCORES)
    assert data.plan().num_steps == 3


def test_a_restored_datamodule_plans_the_same_epoch() -> None:
    data = make(BOUNDS)
    for _ in range(2):
        run_epoch(data, SCORES)
    other = make(BOUNDS)
    other.load_state_dict(data.state_dict())
    assert other.plan().digest() == data.plan().digest()
    assert other.plan().digest() != make(BOUNDS).plan().digest()


@pytest.mark.parametrize(("kind", "pinned"), [("cuda", True), ("cpu", False)])
def test_loaders_feed_the_trainers_device(kind: str, pinned: bool) -> None:
    data = make(num_workers=1)
    strategy = SimpleNamespace(root_device=torch.device(kind))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)  # pyright: ignore
    for loader in (data.train_dataloader(), *data.val_dataloader()):
        assert (loader.num_workers, loader.pin_memory) == (1, pinned)


def test_validation_sees_every_sample_once() -> None:
    (loader,) = make().val_dataloader()
    assert sorted(uid for batch in loader for uid in batch.uids.tolist()) == list(range(20))
