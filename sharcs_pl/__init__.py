"""SHARCS on Lightning and Hydra, for encoders that choose how wide to run for each sample.

Importing the package loads neither torch nor transformers; the names below are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharcs_pl.core.version import __version__

__all__ = ["RoutedPredictor", "SharcsConfig", "SharcsForSequenceClassification", "__version__"]

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import RoutedPredictor
    from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification


def __getattr__(name: str) -> Any:
    if name in ("SharcsConfig", "SharcsForSequenceClassification"):
        from sharcs_pl.models import routed

        return getattr(routed, name)
    if name == "RoutedPredictor":
        from sharcs_pl.inference.predictor import RoutedPredictor

        return RoutedPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
