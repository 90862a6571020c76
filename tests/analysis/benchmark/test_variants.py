"""Everyone runs the same samples, and costs what it claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sharcs_pl.analysis.benchmark.variants import VariantFactory, Workload, make_workload
from sharcs_pl.data.table import TokenTable
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import folder  # noqa: F401  (fixture)

LENGTHS = np.array([9, 3, 7, 3, 9, 5, 2, 8])


@pytest.fixture
def table() -> TokenTable:
    offsets = np.concatenate([[0], LENGTHS.cumsum()])
    ids = np.random.default_rng(0).integers(4, 20, offsets[-1], dtype=np.int32)
    return TokenTable(ids, None, offsets, 0, np.array([0, 1, 2, 0, 1, 2, 0, 1]), None)


@pytest.fixture
def model(folder: Path) -> SharcsForSequenceClassification:  # noqa: F811
    return SharcsForSequenceClassification.from_pretrained(folder)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return (logits.argmax(-1) == labels).double().mean().item()


def factory(
    model: SharcsForSequenceClassification, table: TokenTable, size: int, order: str = "given"
) -> VariantFactory:
    return VariantFactory(model, make_workload(table, size, order, labelled=True), accuracy)


def test_a_sorted_workload_has_the_same_samples_and_less_padding(table: TokenTable) -> None:
    def padded(workload: Workload) -> int:
        return sum(batch.input_ids.size for batch in workload.batches)

    given, ordered = (make_workload(table, 3, order, True) for order in ("given", "sorted"))
    for workload in (given, ordered):
        assert sorted(np.concatenate([b.index for b in workload.batches]).tolist()) == list(range(8))
        for batch in workload.batches:
            assert batch.lengths.tolist() == LENGTHS[batch.index].tolist()
    assert np.concatenate([b.index for b in given.batches]).tolist() == list(range(8))
    assert padded(ordered) < padded(given)


@pytest.mark.parametrize("order", ["given", "sorted"])
def test_values_and_macs_are_those_of_what_ran(
    model: SharcsForSequenceClassification, table: TokenTable, order: str
) -> None:
    made, engine = factory(model, table, 3, order), torch_engine(model)
    rungs = np.array([0, 1, 2, 0, 2, 2, 1, 0])
    mask = (torch.arange(9) < torch.from_numpy(LENGTHS)[:, None]).long()
    ids = table.collate(range(8))["input_ids"]
    with torch.no_grad():
        expected = accuracy(model(ids, mask, rungs=torch.from_numpy(rungs)).logits, torch.from_numpy(table.labels))
        stock = accuracy(model.encoder(ids, mask).logits, torch.from_numpy(table.labels))
    spent = model.cost.rung_macs(LENGTHS)[np.arange(8), rungs].sum() / model.cost.dense_macs(LENGTHS).sum()
    for variant in (made.batched("batch", engine, rungs), made.streamed("stream", engine, rungs)):
        assert variant.value == expected
        assert variant.macs_fraction == pytest.approx(spent)
        assert variant.run().seconds > 0
    assert (made.stock(model.encoder).value, made.stock(model.encoder).macs_fraction) == (stock, 1.0)
    assert len(made.streamed("stream", engine, rungs).run().latencies) == 8
    assert len(made.batched("batch", engine, rungs).run().latencies) == 3


@pytest.mark.parametrize(("size", "share"), [(1, 0.75), (4, 0.75), (3, 0.5), (8, 0.0), (8, 1.0)])
def test_a_share_is_dealt_evenly(
    model: SharcsForSequenceClassification, table: TokenTable, size: int, share: float
) -> None:
    made = factory(model, table, size)
    rungs = made.dealt(share, 1)
    assert set(rungs.tolist()) <= {0, 2}
    assert int((rungs == 0).sum()) == round(share * 8)
    for batch in made.workload.batches:
        assert abs(int((rungs[batch.index] == 0).sum()) - share * len(batch.index)) <= 1
