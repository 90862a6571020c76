from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sharcs_pl.models.router import router_loss
from sharcs_pl.training.objective import ObjectiveConfig, distill_losses
from sharcs_pl.training.rules import Progress, StepContents, TrainingRule
from sharcs_pl.training.slimmable import Teacher, joint_idle, joint_losses, joint_rungs, slimmable_losses
from tests.conftest import tiny_model
from tests.training.made import micro_batch, module_of, routed_step


def test_every_width_learns_every_batch() -> None:
    model, batch = tiny_model(), micro_batch(0)
    config = ObjectiveConfig(rung_weights=(3.0, 1.0))
    losses = slimmable_losses(None)(model, batch, config, Progress())
    logits = model.all_rungs(**batch.inputs).logits
    each = [F.cross_entropy(logits[:, rung], batch.labels, reduction="sum") for rung in (0, 1)]
    torch.testing.assert_close(losses.task, (3 * each[0] + each[1]) / 2)
    assert losses.distill == 0
    torch.testing.assert_close(losses.scores, logits[:, 1].softmax(-1)[torch.arange(6), batch.labels])


def test_the_weights_of_widths_count_once() -> None:
    """Its plan has one batch per step, whose rung says nothing: the first weight is not one of the batch."""
    module = module_of(ObjectiveConfig(rung_weights=(0.0, 1.0))).eval()
    module.rule = TrainingRule(slimmable_losses(None))
    step = routed_step()
    total = torch.zeros(())
    for batch in step.batches:
        total += module.rule.losses(module.model, batch, module.objective, Progress()).task / len(batch.uids)
    assert total > 0
    torch.testing.assert_close(module.training_step(step, 0)["loss"], total / len(step.batches))


def test_without_a_teacher_the_narrow_widths_learn_the_top_one() -> None:
    model, batch = tiny_model(), micro_batch(0)
    losses = slimmable_losses(None)(model, batch, ObjectiveConfig(distill_weight=1.0), Progress())
    logits = model.all_rungs(**batch.inputs).logits
    torch.testing.assert_close(losses.distill, distill_losses(logits[:, 0], logits[:, 1], 1.0).sum())


@pytest.mark.parametrize("widths", [(1.0,), (0.25, 1.0)])
def test_a_teacher_teaches_every_width_and_stays_as_it_was(widths: tuple[float, ...]) -> None:
    model, batch, taught_by = tiny_model(widths=widths), micro_batch(0), tiny_model()
    teacher = Teacher(taught_by)
    losses = slimmable_losses(teacher)(model, batch, ObjectiveConfig(distill_weight=1.0, temperature=2.0), Progress())
    logits = model.all_rungs(**batch.inputs).logits
    lesson = taught_by(**batch.inputs).logits
    want = [distill_losses(logits[:, rung], lesson, 2.0).sum() for rung in range(len(widths))]
    torch.testing.assert_close(losses.distill, torch.stack(want).mean())
    losses.distill.backward()
    assert all(p.grad is None for p in taught_by.parameters())


def test_a_teacher_without_weight_teaches_nothing() -> None:
    losses = slimmable_losses(Teacher(tiny_model()))(
        tiny_model(), replace(micro_batch(0)), ObjectiveConfig(), Progress()
    )
    assert losses.distill == 0


def test_a_joint_step_trains_every_width_and_the_router() -> None:
    members = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).repeat(3, 1)
    model, batch = tiny_model(), micro_batch(1, members)
    config = ObjectiveConfig(distill_weight=1.0)
    losses = joint_losses(model, batch, config, Progress(epoch=1, stage_epochs=1))
    found = model.all_rungs(**batch.inputs)
    assert found.signals is not None
    expected = slimmable_losses(None)(model, batch, config, Progress())
    torch.testing.assert_close(losses.task, expected.task)
    torch.testing.assert_close(losses.distill, expected.distill)
    torch.testing.assert_close(losses.router, router_loss(found.signals, members, reduction="none").sum())
    assert losses.router > 0
    torch.testing.assert_close(losses.scores, found.logits[:, 0].softmax(-1)[torch.arange(6), batch.labels])


def test_a_joint_step_before_routing_trains_the_full_width_alone() -> None:
    model, batch = tiny_model(), micro_batch(1)
    early = Progress(epoch=0, stage_epochs=1)
    losses = joint_losses(model, batch, ObjectiveConfig(distill_weight=1.0), early)
    logits = model.all_rungs(**batch.inputs).logits
    torch.testing.assert_close(losses.task, F.cross_entropy(logits[:, 1], batch.labels, reduction="sum"))
    assert (losses.distill, losses.router) == (0, 0)
    torch.testing.assert_close(losses.scores, logits[:, 1].softmax(-1)[torch.arange(6), batch.labels])


def test_where_a_batch_brings_answers_all_widths_learn_them_and_no_labels() -> None:
    members, lesson = torch.ones(6, 2), torch.randn(6, 2)
    model, batch = tiny_model(), replace(micro_batch(1, members), teacher=lesson)
    config = ObjectiveConfig(distill_weight=1.0, temperature=2.0, rung_weights=(3.0, 1.0))
    losses = joint_losses(model, batch, config, Progress(epoch=1, stage_epochs=1))
    logits = model.all_rungs(**batch.inputs).logits
    narrow, full = (distill_losses(logits[:, rung], lesson, 2.0).sum() for rung in (0, 1))
    torch.testing.assert_close(losses.distill, (3 * narrow + full) / 2)
    assert losses.task == 0
    assert losses.router > 0
    torch.testing.assert_close(losses.scores, logits[:, 0].softmax(-1)[torch.arange(6), batch.labels])


@pytest.mark.parametrize(("epoch", "routed"), [(0, False), (1, True)])
def test_what_a_joint_step_leaves_alone_is_what_it_does_not_train(epoch: int, routed: bool) -> None:
    members = torch.ones(6, 4) if routed else None
    model, batch = tiny_model(widths=(0.25, 0.5, 0.75, 1.0)), micro_batch(3, members)
    config, progress = ObjectiveConfig(distill_weight=1.0), Progress(epoch, 2, 3, 1)
    losses = joint_losses(model, batch, config, progress)
    (losses.task + losses.distill + losses.router).backward()
    idle = joint_idle(model, StepContents(frozenset([3]), routed), config, progress)
    without = [p for p in model.parameters() if p.grad is None]
    assert idle
    assert {id(p) for p in idle} == {id(p) for p in without}


def test_of_many_widths_a_step_trains_the_outer_ones_and_one_between() -> None:
    drawn = [joint_rungs(Progress(epoch, step, 9, 1), 5) for epoch in (1, 2) for step in range(20)]
    assert all(rungs[0] == 0 and rungs[2] == 4 for rungs in drawn)
    assert {rungs[1] for rungs in drawn} == {1, 2, 3}
    assert drawn == [joint_rungs(Progress(epoch, step, 9, 1), 5) for epoch in (1, 2) for step in range(20)]
    assert joint_rungs(Progress(1, 0, 9, 1), 3) == (0, 1, 2)
