from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from torch.nn import functional as F

from sharcs_pl.core.plan import PlanConfig, make_plan
from sharcs_pl.data.sampler import StepDataset
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.training import exits
from sharcs_pl.training.exits import ExitBatch, exit_losses, exits_idle
from sharcs_pl.training.module import OptimizerSettings, SharcsModule
from sharcs_pl.training.objective import ObjectiveConfig
from sharcs_pl.training.rules import Progress, TrainingRule
from tests.conftest import random_table, tiny_bert
from tests.training.made import Waits, micro_batch

FIRST, SECOND = Progress(0, 0, 4, 2), Progress(2, 0, 4, 2)


def model_of(rule: str = "confidence", **values: Any) -> ExitsForSequenceClassification:
    return ExitsForSequenceClassification.from_encoder(tiny_bert(), rule=rule, **values)


def batch_of(certainty: bool = False, regression: bool = False) -> ExitBatch:
    torch.manual_seed(1)
    labels = torch.tensor([0.5, 2.0]) if regression else torch.tensor([1, 0])
    logits = torch.randn(2, 3, 1 if regression else 2)
    sure = torch.randn(2, 3) if certainty else None
    return ExitBatch(torch.tensor([3.0, 2.0, 1.0]), logits, sure, labels, (1, 2, 4))


def test_the_weights_of_the_papers() -> None:
    batch = batch_of()
    assert exits.equal(batch, FIRST) == pytest.approx(2.0)
    assert exits.by_depth(batch, FIRST) == pytest.approx((3 * 1 + 2 * 2 + 1 * 3) / 6)
    assert exits.ramped(batch, FIRST) == pytest.approx((3 * 0.01 + 2 * 0.01 + 1) / 1.02)
    halfway = (0.01 + 0.24 / 2, 0.01 + 0.49 / 2)
    want = (3 * halfway[0] + 2 * halfway[1] + 1) / (sum(halfway) + 1)
    assert exits.ramped(batch, SECOND) == pytest.approx(want)
    assert [exits.two_stage(batch, stage).item() for stage in (FIRST, SECOND)] == [1.0, 2.5]


@pytest.mark.parametrize("name", exits.OBJECTIVES)
def test_no_objective_waits_for_a_device(name: str) -> None:
    model: Any = model_of("learned")
    model.to("meta")
    batch = micro_batch().to("meta", non_blocking=True)
    with Waits() as waits:
        for progress in (FIRST, SECOND):
            losses = exit_losses(exits.OBJECTIVES[name])(model, batch, ObjectiveConfig(), progress)
            losses.task.backward()
    assert not waits.copies


def test_students_learn_what_the_last_exit_says_and_no_label() -> None:
    batch = batch_of()
    assert exits.self_distilled(batch, FIRST) == 1.0
    p = batch.logits.softmax(-1)
    each = [(p[:, i] * (p[:, i] / p[:, 2]).log()).sum() for i in (0, 1)]
    torch.testing.assert_close(exits.self_distilled(batch, SECOND), (each[0] + each[1]) / 2)


def test_students_of_a_regression_learn_its_last_exits_number() -> None:
    batch = batch_of(regression=True)
    errors = (batch.logits[:, :2, 0] - batch.logits[:, 2:, 0]).square()
    torch.testing.assert_close(exits.self_distilled(batch, SECOND), errors.sum(0).mean())


OBJECTIVES = (exits.equal, exits.ramped, exits.by_depth, exits.two_stage, exits.self_distilled, exits.alternating)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_whatever_the_loss_a_learned_certainty_is_taught(objective: Any) -> None:
    """A stop rule by numbers that nothing taught would stop at random."""
    model, batch = model_of("learned"), micro_batch(0)
    exit_losses(objective)(model, batch, ObjectiveConfig(), Progress(2, 1, 4, 2)).task.backward()
    assert model.certainty is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.certainty.parameters())


@pytest.mark.parametrize("regression", [False, True])
def test_every_other_step_teaches_all_exits_and_how_certain_they_are(regression: bool) -> None:
    batch = batch_of(certainty=True, regression=regression)
    assert batch.certainty is not None
    assert exits.alternating(batch, Progress(0, 0)) == 1.0
    found, guess = exits.alternating(batch, Progress(0, 1)), batch.certainty[:, :2].sigmoid()
    if regression:
        truth = 1 - (batch.logits[:, :2, 0] - batch.labels[:, None]).abs().tanh()
    else:
        truth = (batch.logits[:, :2].argmax(-1) == batch.labels[:, None]).float()
    torch.testing.assert_close(found, 2.0 + F.mse_loss(guess, truth, reduction="none").mean(1).sum())


def test_the_losses_are_those_of_the_exits() -> None:
    model, batch = model_of(), micro_batch(0)
    losses = exit_losses(exits.equal)(model, batch, ObjectiveConfig(), FIRST)
    logits = model.all_rungs(**batch.inputs).logits
    each = [F.cross_entropy(logits[:, i], batch.labels, reduction="sum") for i in range(3)]
    torch.testing.assert_close(losses.task, torch.stack(each).mean())
    torch.testing.assert_close(losses.scores, logits[:, -1].softmax(-1)[torch.arange(6), batch.labels])


@pytest.mark.parametrize("objective", [exits.two_stage, exits.self_distilled])
@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_moves_its_own_part_alone(objective: Any, stage: int) -> None:
    """Momentum and decay included: the optimizer has seen a step of the other part."""
    table, model = random_table(16), model_of()
    rule = TrainingRule(exit_losses(objective), exits_idle(objective), stage_epochs=1)
    module = SharcsModule(model, GLUE["sst2"], None, OptimizerSettings(lr=1e-2, weight_decay=0.5), seed=3, rule=rule)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=2)
    module.trainer = trainer
    optimizer = module.configure_optimizers()
    plan = make_plan(None, table.lengths, PlanConfig(8, 1), seed=1, epoch=0)
    step = StepDataset(table, plan)[0]
    for epoch in dict.fromkeys((0, stage)):
        before = copy.deepcopy(model)
        trainer.fit_loop.epoch_progress.current.completed = epoch
        optimizer.zero_grad()
        module.training_step(replace(step, epoch=epoch), 0)["loss"].backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), before.parameters(), strict=True)]
    names = [name for name, _ in model.named_parameters()]
    new = [name.startswith(("heads", "certainty")) for name in names]
    assert not any(m for m, n in zip(moved, new, strict=True) if n != bool(stage))
    assert any(moved)
