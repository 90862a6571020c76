"""The predictor of a checked model, on the device that a command names."""

from __future__ import annotations

import os
from typing import Any

from sharcs_pl.inference.parts import is_parts
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.inference.trained import TrainedModel


def open_predictor(source: TrainedModel, device: str, backend: str | None, **options: Any) -> RoutedPredictor:
    """Load a model and its tokenizer on ``cpu``, ``cuda`` or ``auto``; `options` are those of `RoutedPredictor.of`.
    Raise ``ValueError`` for a device that is not here."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch sees no CUDA device here; use device=cpu or auto")
    disable_progress_bar()  # the bar of the weights' loading
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    in_torch = backend in (None, "torch") and not is_parts(source.weights)
    wanted = device == "cuda" or (device == "auto" and in_torch)
    place = "cuda" if wanted and torch.cuda.is_available() else "cpu"
    return RoutedPredictor.of(source, device=place, backend=backend, **options)
