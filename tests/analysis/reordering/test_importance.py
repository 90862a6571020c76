"""The first-order criterion against finite differences and a loop, its file, its figure; the two narrow cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from sharcs_pl.analysis.reordering.importance import Importance, draw_importance, measure, write_importance
from sharcs_pl.analysis.reordering.narrow import KEPT, RUNG, hidden_kept, narrow_logits
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.models.order import leading_order, reorder, watching
from sharcs_pl.models.router import task_loss
from tests.conftest import random_table, tiny_bert


def batches(size: int, batch_size: int, num_labels: int = 2) -> list[dict[str, Tensor]]:
    table = random_table(size, num_labels=num_labels)
    return [table.collate(range(at, min(at + batch_size, size))) for at in range(0, size, batch_size)]


def model(num_labels: int = 2) -> Any:
    found = tiny_bert(num_labels)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found.eval()


def loss_without(stock: Any, batch: dict[str, Tensor], part: str, at: tuple[int, slice], scale: float) -> float:
    """The loss of one sample when a head's or neuron's output is multiplied by `scale`."""

    def change(depth: int, value: Tensor) -> Tensor:
        factor = torch.ones(value.shape[-1], dtype=value.dtype)
        factor[at[1]] = scale if depth == at[0] else 1
        return value * factor

    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad(), watching(stock, part, change):
        return task_loss(stock(**inputs).logits, batch["labels"], stock.config.num_labels).item()


@pytest.mark.parametrize("num_labels", [1, 3])
def test_it_is_the_slope_of_the_loss_against_a_gate_on_the_output(num_labels: int) -> None:
    stock, singles = model(num_labels).double(), batches(3, 1, num_labels)
    found = measure(stock, singles)
    for part, values, width in (("attention_out", found.heads, 4), ("ffn_out", found.neurons, 1)):
        for layer, index in ((0, 0), (2, 3)):
            at = layer, slice(index * width, (index + 1) * width)
            ends = [[loss_without(stock, one, part, at, 1 + step) for step in (0.05, -0.05)] for one in singles]
            slope = np.mean([abs(high - low) / 0.1 for high, low in ends])
            assert values[layer, index].item() == pytest.approx(slope, rel=0.01, abs=1e-5)


def test_batches_and_padding_do_not_matter() -> None:
    stock = model()
    one, many = measure(stock, batches(10, 1)), measure(stock, batches(10, 4))
    assert (one.samples, many.samples) == (10, 10)
    torch.testing.assert_close(one.heads, many.heads, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(one.neurons, many.neurons, rtol=1e-4, atol=1e-8)


def test_nothing_is_left_in_the_model() -> None:
    stock = model()
    stock.bert.embeddings.requires_grad_(False)
    measure(stock, batches(4, 2))
    assert all(parameter.grad is None for parameter in stock.parameters())
    assert {p.requires_grad for p in stock.classifier.parameters()} == {True}
    assert {p.requires_grad for p in stock.bert.embeddings.parameters()} == {False}
    assert not any(module._forward_pre_hooks for module in stock.modules())


def test_importance_moves_with_the_heads() -> None:
    stock, data = model(), batches(6, 3)
    before = measure(stock, data)
    order = leading_order(stock, before.heads, before.neurons)
    reorder(stock, order)
    after = measure(stock, data)
    torch.testing.assert_close(after.heads, before.heads.sort(-1, descending=True).values, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(after.neurons, before.neurons.gather(1, order.neurons), rtol=1e-3, atol=1e-7)


def test_the_file_says_where_each_came_from_and_went(tmp_path: Path) -> None:
    stock = tiny_bert()
    found = Importance(torch.rand(3, 4), torch.rand(3, 32), 7)
    order = leading_order(stock, found.heads, found.neurons)
    write_importance(tmp_path / "importance.parquet", found, order)
    rows = pq.read_table(tmp_path / "importance.parquet").to_pylist()
    assert len(rows) == 3 * (4 + 32)
    for row in rows:
        values, places = (found.heads, order.heads) if row["part"] == "head" else (found.neurons, order.neurons)
        assert row["importance"] == pytest.approx(values[row["layer"], row["index"]].item())
        assert places[row["layer"], row["place"]] == row["index"]


def test_the_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = Importance(torch.rand(3, 4), torch.rand(3, 100), 7)
    order = leading_order(tiny_bert(), found.heads, found.neurons)
    path = draw_importance(found, order, tmp_path / "importance.png")
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_top_rung_of_both_cuts_is_the_model_and_the_narrow_ones_are_cut() -> None:
    stock, data, ladder = model(), batches(5, 2), WidthLadder.parse([0.25, 0.5, 1])
    found = narrow_logits(stock, data, ladder, 1)
    with torch.no_grad():
        plain = torch.cat([stock(**{k: v for k, v in batch.items() if k != "labels"}).logits for batch in data])
    for cut in (RUNG, KEPT):
        torch.testing.assert_close(found.logits[cut, 2], plain, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(found.logits[cut, 0], plain, atol=1e-3)
    assert torch.equal(found.labels, torch.cat([batch["labels"] for batch in data]))


@torch.no_grad()
def test_keeping_the_hidden_size_is_the_model_with_the_other_heads_and_neurons_removed() -> None:
    stock, (batch,), ladder = model(), batches(4, 4), WidthLadder.parse([0.5, 1])
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    got = hidden_kept(stock, inputs, ladder, 0, 1)
    for layer in stock.bert.encoder.layer[1:]:
        layer.attention.output.dense.weight[:, 8:] = 0  # 2 of 4 heads of size 4
        layer.output.dense.weight[:, 16:] = 0
    torch.testing.assert_close(got, stock(**inputs).logits, rtol=1e-5, atol=1e-6)
