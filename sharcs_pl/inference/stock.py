"""The widest sub-network of a model as a stock checkpoint of transformers.

Dimensions: `B` batch, `L` tokens, `C` labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from sharcs_pl.inference.parity import TOLERANCE, sampled_inputs
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.pretrained import align
from sharcs_pl.models.saved import as_stock


def save_stock(model: Any, folder: Path) -> float:
    """Write `config.json` and the weights of a model that `models.stock_form.obstacle` has nothing against. Return the
    largest difference of a logit between what transformers reads there and the model. Raise `ValueError` where it is
    not within rounding."""
    as_stock(model).save_pretrained(folder)
    disable_progress_bar()
    stock: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    align(stock)
    if stock._supports_sdpa:
        stock.set_attn_implementation(model.encoder.config._attn_implementation)
    stock.eval()
    with torch.no_grad():
        gaps = [(stock(**inputs).logits - widest(model, inputs)).abs().max() for inputs in sampled_inputs(model)]
    difference = float(torch.stack(gaps).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"the stock model answers otherwise than this one: {difference:.1e} from its logits")
    return difference


def widest(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return the logits [B, C] of a model at its full width, or at its last exit."""
    if isinstance(model, ExitsForSequenceClassification):
        return model.all_rungs(**inputs).logits[:, -1]
    return model(**inputs, rungs=model.ladder.top).logits
