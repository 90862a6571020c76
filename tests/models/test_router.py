from __future__ import annotations

import math

import pytest
import torch

from sharcs_pl.models.router import Router, masked_mean, router_loss, task_loss


def test_the_mean_is_over_real_tokens_only() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    assert masked_mean(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]
    assert masked_mean(hidden, torch.tensor([[0, 0, 0]])).tolist() == [[0.0, 0.0]]


def test_the_router_is_two_linears_with_a_relu_between() -> None:
    router = Router(4, 3, 2)
    hidden = torch.randn(2, 5, 4)
    pooled = hidden.mean(1)
    inner = (pooled @ router.dense.weight.T + router.dense.bias).clamp(min=0)
    want = inner @ router.output.weight.T + router.output.bias
    torch.testing.assert_close(router(hidden, torch.ones(2, 5, dtype=torch.long)), want)


def test_router_loss_is_the_mean_of_binary_cross_entropies() -> None:
    logits, members = torch.tensor([[0.0, 2.0], [-1.0, 0.0]]), torch.tensor([[True, True], [False, True]])
    rows = [(math.log(2) + math.log(1 + math.exp(-2))) / 2, (math.log(1 + math.exp(-1)) + math.log(2)) / 2]
    assert router_loss(logits, members, "none").tolist() == pytest.approx(rows)
    assert router_loss(logits, members).item() == pytest.approx(sum(rows) / 2)


def test_task_loss_of_classes_and_of_values() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    rows = [math.log(2), math.log(4)]
    assert task_loss(logits, torch.tensor([1, 0]), 2, "none").tolist() == pytest.approx(rows)
    assert task_loss(logits, torch.tensor([1, 0]), 2).item() == pytest.approx(sum(rows) / 2)
    values = torch.tensor([[1.0], [4.0]])
    assert task_loss(values, torch.tensor([0.0, 2.0]), 1, "none").tolist() == [1.0, 4.0]
    assert task_loss(values, torch.tensor([0, 2]), 1).item() == 2.5


def test_losses_are_taken_in_full_precision() -> None:
    logits = torch.tensor([[10.0, 1.0]], dtype=torch.bfloat16)
    assert task_loss(logits, torch.tensor([0]), 2).dtype == torch.float32
    assert router_loss(logits, torch.tensor([[1, 0]])).dtype == torch.float32
