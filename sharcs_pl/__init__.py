"""SHARCS on Lightning and Hydra, for encoders that choose how wide to run for each sample.

Importing the package loads neither torch nor transformers; the names below are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sharcs_pl.core.version import __version__

__all__ = [
    "Prediction",
    "RoutedPredictor",
    "SharcsConfig",
    "SharcsForSequenceClassification",
    "SharcsTrainer",
    "__version__",
]

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
    from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification
    from sharcs_pl.training.trainer import SharcsTrainer

_HOMES = {
    "Prediction": "inference.predictor",
    "RoutedPredictor": "inference.predictor",
    "SharcsConfig": "models.routed",
    "SharcsForSequenceClassification": "models.routed",
    "SharcsTrainer": "training.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
