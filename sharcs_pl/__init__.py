"""SHARCS on Lightning and Hydra, for encoders that choose how wide to run for each sample.

Importing the package loads neither torch nor transformers; the names below are loaded when first used. The Auto classes
of transformers know the models from then on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sharcs_pl.core.late_import import import_after
from sharcs_pl.core.version import __version__

__all__ = [
    "Prediction",
    "RoutedPredictor",
    "SharcsConfig",
    "SharcsForSequenceClassification",
    "SharcsTrainer",
    "TrainedRun",
    "__version__",
    "fit",
    "open_run",
]

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
    from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification
    from sharcs_pl.pipeline.api import fit, open_run
    from sharcs_pl.pipeline.finished import TrainedRun
    from sharcs_pl.training.trainer import SharcsTrainer

_HOMES = {
    "Prediction": "inference.predictor",
    "RoutedPredictor": "inference.predictor",
    "SharcsConfig": "models.saved",
    "SharcsForSequenceClassification": "models.saved",
    "SharcsTrainer": "training.trainer",
    "TrainedRun": "pipeline.finished",
    "fit": "pipeline.api",
    "open_run": "pipeline.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


import_after("transformers.models.auto.modeling_auto", f"{__name__}.models.saved")
