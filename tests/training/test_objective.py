from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.training.objective import ObjectiveConfig, batch_losses, distill_losses, share_of_tokens
from tests.conftest import tiny_bert, tiny_model
from tests.training.made import micro_batch


def test_each_loss_by_hand() -> None:
    model = tiny_model()
    members = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).repeat(2, 1)
    batch = micro_batch(0, members)
    losses = batch_losses(model, batch, ObjectiveConfig(distill_weight=1.0, temperature=2.0))
    logits, router_logits, _ = model.all_rungs(**batch.inputs)
    assert router_logits is not None
    task = F.cross_entropy(logits[:, 0], batch.labels, reduction="sum")
    router = F.binary_cross_entropy_with_logits(router_logits, members, reduction="none").mean(1).sum()
    p, q = (logits[:, 1] / 2).softmax(-1), (logits[:, 0] / 2).softmax(-1)
    distill = (p * (p / q).log()).sum() * 4
    torch.testing.assert_close(losses.task, task)
    torch.testing.assert_close(losses.router, router)
    torch.testing.assert_close(losses.distill, distill)
    torch.testing.assert_close(losses.scores, logits[:, 0].softmax(-1)[torch.arange(6), batch.labels])


def test_a_token_costs_its_weight_in_each_layer_that_it_runs_in() -> None:
    model = SharcsForSequenceClassification.from_encoder(tiny_bert(), widths=[0.25, 1], split_layer=1, skim=True)
    assert model.predictors is not None
    for predictor in model.predictors:
        predictor.get_parameter("output.bias").data.zero_()
    batch = micro_batch(0)

    def task(weight: float) -> torch.Tensor:
        torch.manual_seed(3)
        return batch_losses(model, batch, ObjectiveConfig(skim_weight=weight)).task

    torch.manual_seed(3)
    came, trunk, tail = model.trunk(**batch.inputs, draw=True).counts.T  # pyright: ignore[reportOptionalMemberAccess]
    assert trunk.sum() < 0.9 * came.sum()
    torch.testing.assert_close(task(0.5) - task(0.0), 0.5 * ((trunk + 2 * tail) / 3 / came).sum())  # 3 layers


def test_a_share_of_tokens_is_the_mean_over_layers() -> None:
    counts = torch.tensor([[8.0, 6, 4, 2], [5, 5, 5, 5], [0, 0, 0, 0]])
    assert share_of_tokens(counts, 6).tolist() == pytest.approx([(6 + 4 + 4 * 2) / 48, 1.0, 0.0])


def test_router_loss_is_off_until_there_are_memberships() -> None:
    model = tiny_model()
    assert batch_losses(model, micro_batch(1), ObjectiveConfig()).router == 0
    warm = batch_losses(model, micro_batch(1), ObjectiveConfig(warmup_loss=True)).router
    top = torch.tensor([[0.0, 1.0]]).repeat(6, 1)
    torch.testing.assert_close(warm, batch_losses(model, micro_batch(1, top), ObjectiveConfig()).router)


@pytest.mark.parametrize("rung", [0, 1])
def test_the_top_rung_teaches_on_every_batch_and_learns_nothing_from_it(rung: int) -> None:
    model = tiny_model()
    batch_losses(model, micro_batch(rung), ObjectiveConfig(distill_weight=1.0)).distill.backward()
    parameters = dict(model.named_parameters())
    assert parameters["tails.0.norm.weight"].grad is not None
    assert parameters["encoder.bert.encoder.layer.2.output.LayerNorm.weight"].grad is None


def test_distillation_of_a_regression_is_the_squared_difference() -> None:
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.5]])
    torch.testing.assert_close(distill_losses(student, teacher, 5.0), torch.tensor([4.0, 0.25]))


def test_nothing_is_distilled_where_nothing_is_narrow() -> None:
    model = tiny_model(widths=(1.0,))
    losses = batch_losses(model, replace(micro_batch(0)), ObjectiveConfig())
    assert losses.distill == 0
    assert losses.router == 0
