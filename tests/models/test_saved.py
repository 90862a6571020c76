from __future__ import annotations

from pathlib import Path

import torch

from sharcs_pl.models.saved import load_ladder
from tests.conftest import tiny_model


def test_a_model_saved_in_half_precision_is_trained_further_in_single(tmp_path: Path) -> None:
    tiny_model().bfloat16().save_pretrained(tmp_path)
    assert load_ladder(tmp_path).dtype == torch.float32


def test_a_stock_checkpoint_is_no_ladder(tmp_path: Path) -> None:
    tiny_model().encoder.save_pretrained(tmp_path)
    assert load_ladder(tmp_path) is None
    assert load_ladder("some/hub-id") is None
