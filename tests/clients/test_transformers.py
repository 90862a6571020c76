"""The Trainer of transformers, which evaluates and predicts with any model of several outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.surgery import KINDS

pytest.importorskip("accelerate")


@pytest.mark.parametrize("kind", KINDS)
def test_trainer_evaluates_and_predicts(kind: str, stock: Any, batch: Any, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model, inputs = KINDS[kind](stock("bert")), batch()
    rows = [{name: value[row] for name, value in inputs.items()} | {"labels": row % 3} for row in range(5)]
    options = TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=2, report_to=[], use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(model, options, eval_dataset=rows)  # pyright: ignore[reportArgumentType]
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    found = trainer.predict(rows)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    np.testing.assert_allclose(found.predictions, expected, atol=1e-5)


def training(folder: Path, rows: Any, model: Any, batch_size: int, steps: int) -> None:
    from transformers import Trainer, TrainingArguments

    options = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps,
        max_steps=1, learning_rate=0.1, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[],
        use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(model, options, train_dataset=rows).train()


def test_training_warns_that_the_router_learns_nothing(stock: Any, batch: Any, tmp_path: Path) -> None:
    rows = [{"input_ids": row, "labels": 1} for row in batch(lengths=(5, 5, 5, 5))["input_ids"]]
    with pytest.warns(UserWarning, match="does not train the router, which chooses the widths; train with SharcsTrain"):
        training(tmp_path, rows, KINDS["routed"](stock("bert")), 4, 1)


@pytest.mark.filterwarnings("ignore:this training does not train the router")
def test_accumulated_batches_are_one_large_batch(stock: Any, batch: Any, tmp_path: Path) -> None:
    rows = [{"input_ids": row, "labels": 1} for row in batch(lengths=(5, 5, 5, 5))["input_ids"]]
    found = []
    for batch_size, steps in ((4, 1), (1, 4)):
        torch.manual_seed(0)
        model = KINDS["routed"](stock("bert"), dropout=0.0)
        training(tmp_path, rows, model, batch_size, steps)
        found.append(model.encoder.classifier.weight.detach())
    torch.testing.assert_close(*found)
