"""Weights that accelerate keeps elsewhere and brings when a module is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification

accelerate = pytest.importorskip("accelerate")


@torch.no_grad()
def test_every_width_runs_on_offloaded_weights(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    expected = [model(**inputs, rungs=rung).logits for rung in range(3)]
    away = accelerate.cpu_offload(model, execution_device="cpu")
    assert all(parameter.is_meta for parameter in away.encoder.parameters())
    with pytest.raises(
        ValueError, match=r"a hook on a Linear makes or moves its weight .* remove it first, or call the"
    ):
        torch_engine(away)
    for rung, logits in enumerate(expected):
        torch.testing.assert_close(away(**inputs, rungs=rung).logits, logits)


@torch.no_grad()
def test_every_width_runs_on_weights_on_the_disk(
    model: SharcsForSequenceClassification, batch: Any, tmp_path: Path
) -> None:
    inputs = batch()
    expected = [model(**inputs, rungs=rung).logits for rung in range(3)]
    model.save_pretrained(tmp_path / "model")
    away: Any = SharcsForSequenceClassification.from_pretrained(
        tmp_path / "model", device_map="auto", max_memory={"cpu": 60_000}, offload_folder=tmp_path / "away"
    ).eval()
    assert "disk" in away.hf_device_map.values()
    for rung, logits in enumerate(expected):
        torch.testing.assert_close(away(**inputs, rungs=rung).logits, logits)
