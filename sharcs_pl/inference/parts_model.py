"""A folder of parts in the place of a routed model, for evaluation and calibration.

Dimensions: `B` batch, `L` tokens, `W` rungs, `C` labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.inference.batches import Backend, Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.parts import PartsBackend, PartsFacts
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.configuration import SharcsConfig
from sharcs_pl.models.outputs import EveryRung
from sharcs_pl.models.routed import SharcsForSequenceClassification


class PartsModel(SharcsForSequenceClassification):
    """A routed model whose answers come from parts; it has no weights of its own and cannot be trained."""

    backend: Backend

    @classmethod
    def of_folder(cls, folder: Path, threads: int | None = None) -> PartsModel:
        """Load a folder of parts. Raise `ValueError` where it is damaged, or its runtime is not installed."""
        facts = PartsFacts.read(folder)
        with torch.device("meta"):
            found = cls(SharcsConfig.from_pretrained(folder))
        found.backend = PartsBackend(folder, facts, facts.precision, threads)
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

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> PartsModel:
        """Stay where it is: there is nothing to move or convert."""
        return self


def engine_of(model: SharcsForSequenceClassification) -> Engine:
    """Return the engine that ``sharcs predict`` runs for a model: of its own parts, or in torch."""
    return Engine(model.backend, model.config.decision()) if isinstance(model, PartsModel) else torch_engine(model)
