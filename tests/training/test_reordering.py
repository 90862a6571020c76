"""Heads and neurons put in order in the middle of a training: as if they had had that order from the beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sharcs_pl import reorder as command
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.models.order import leading_order, reorder
from sharcs_pl.training.reordering import reorder_with_moments
from tests.conftest import tiny_bert
from tests.models.conftest import stock as stock
from tests.models.surgery import random_importance
from tests.training.survival import assert_goes_on, checkpoint, run, run_with, whole_run

JOINT = (
    "hardness.trains=all", "distill=top", "method.cut=heads_ffn", "width.reorder_after=1",
    "width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.5,1],[0.4,1],[0,1]]",
)  # fmt: skip


def train(model: Any, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]]) -> None:
    for ids, labels in batches:
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["bert", "mpnet", "albert"])
def test_training_goes_on_as_if_the_order_had_been_there_from_the_beginning(stock: Any, kind: str) -> None:
    """With shared layers and a table with an entry per head too. Without its moments moved, a weight would go on with
    the momentum of another one."""
    generator = torch.Generator().manual_seed(3)
    batches = [
        (torch.randint(5, 20, (4, 6), generator=generator), torch.randint(0, 2, (4,), generator=generator))
        for _ in range(6)
    ]
    late, early = stock(kind).double().eval(), stock(kind).double().eval()  # without dropout
    early.load_state_dict(late.state_dict())
    order = leading_order(late, *random_importance(late))
    reorder(early, order)
    for model in (late, early):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        train(model, optimizer, batches[:3])
        if model is late:
            reorder_with_moments(late, order, optimizer)
        train(model, optimizer, batches[3:])
    found, expected = late.state_dict(), early.state_dict()
    # Attention's key biases have no gradient but rounding, which Adam amplifies.
    compared = [name for name in expected if not name.endswith(("key.bias", "k.bias"))]
    assert len(compared) > 5
    for name in compared:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-9, msg=name)


def test_the_order_is_the_one_that_the_command_finds(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    for part in (tiny_bert(vocab_size=len(tokenizer)), tokenizer):
        part.save_pretrained(tmp_path / "bert")
    encoder = ("encoder=custom", f"encoder.pretrained={tmp_path / 'bert'}", "task.max_length=30")

    class Keep(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                for part in (pl_module.model.encoder, tokenizer):
                    part.save_pretrained(tmp_path / "epoch")

    run_with(tmp_path / "run", Keep(), *JOINT, *encoder)
    words = ("task.train_size=48", "task.dev_size=24", "task.max_length=30", "encoder=custom", "samples=1024")
    given = (*words, f"encoder.pretrained={tmp_path / 'epoch'}", f"output={tmp_path / 'o'}")
    record = command.run(read_command("reorder", ReorderConfig, list(given)))
    assert record["head"] == "the checkpoint's"
    one, other = (folder / "importance.parquet" for folder in (tmp_path / "run", tmp_path / "o"))
    assert one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory, *JOINT)


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 2), (1, 3), (2, 5)])
def test_a_run_cut_in_any_phase_goes_on_exactly(tmp_path: Path, whole: Path, epoch: int, step: int) -> None:
    """At full width, before and right after the reordering, and while every width is trained."""
    assert_goes_on(tmp_path / "cut", whole, epoch, step, *JOINT)
    assert (whole / "importance.parquet").read_bytes() == (tmp_path / "cut" / "importance.parquet").read_bytes()


def test_a_run_that_is_not_reordered_ends_elsewhere(tmp_path: Path, whole: Path) -> None:
    run(tmp_path / "run", *JOINT, "width.reorder_after=null")
    one, other = (checkpoint(folder)["state_dict"] for folder in (whole, tmp_path / "run"))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "run" / "importance.parquet").exists()
