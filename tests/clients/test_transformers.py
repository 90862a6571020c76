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
