"""A backend of the engine in the place of a routed model, for evaluation and calibration.

Dimensions: `B` batch, `L` tokens, `W` rungs, `C` labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.inference.batches import Backend, Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.parts import is_parts
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.inference.serving import Serving
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.inference.trained import TrainedModel, model_settings
from sharcs_pl.models.configuration import SharcsConfig
from sharcs_pl.models.outputs import EveryRung
from sharcs_pl.models.routed import SharcsForSequenceClassification


class BackendModel(SharcsForSequenceClassification):
    """A routed model whose answers come from a backend; it has no weights of its own and cannot be trained."""

    backend: Backend

    @classmethod
    def of(cls, config: SharcsConfig, backend: Backend) -> BackendModel:
        """Put a backend in the place of the model of which `config` is."""
        with torch.device("meta"):
            found = cls(config)
        found.backend = backend
        return found.eval()

    @property
    def device(self) -> torch.device:
        """The device of inputs and answers."""
        return torch.device("cpu")

    def all_rungs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> EveryRung:
        """Run every sample on every rung. The signals are the router's logits."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        types = None if token_type_ids is None else token_type_ids.numpy()
        lengths = mask.sum(1).numpy()
        batch = Batch(np.arange(len(lengths)), input_ids.numpy(), lengths, types)
        hidden, scores = self.backend.trunk(batch, route=True)
        tails = [self.backend.tail(rung, hidden, lengths) for rung in range(len(self.ladder))]
        logits = torch.from_numpy(np.stack([self.backend.read(logits) for logits in tails], axis=1))
        return EveryRung(logits, None if scores is None else torch.from_numpy(scores))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> BackendModel:
        """Stay where it is: there is nothing to move or convert."""
        return self


def load_served(source: TrainedModel, serving: Serving, device: str = "cpu") -> BackendModel:
    """Load a model whose answers come from where ``sharcs predict`` takes them: a folder of parts, the same parts made
    of a model for the while, or the engine in torch, on `device`."""
    if is_parts(source.weights):
        predictor = RoutedPredictor.of_parts(source.weights, **vars(serving))
    else:
        predictor = RoutedPredictor.of(source, device=device, **vars(serving))
    return BackendModel.of(SharcsConfig.from_dict(model_settings(source)), predictor.engine.backend)


def engine_of(model: SharcsForSequenceClassification) -> Engine:
    """Return the engine that ``sharcs predict`` runs for a model: of its own backend, or in torch."""
    return Engine(model.backend, model.config.decision()) if isinstance(model, BackendModel) else torch_engine(model)
