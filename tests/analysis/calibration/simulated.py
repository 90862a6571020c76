"""Answers of two widths with a router, simulated from samples whose hardness is known."""

from __future__ import annotations

import torch

from sharcs_pl.analysis.calibration.views import Views
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.predictions import Predictions
from tests.conftest import tiny_model

SIZE = 20_000


def population(seed: int = 1) -> Views:
    """Two widths whose certainty tells a little of their mistakes, and a router that tells a little less."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (SIZE,), generator=generator)
    hard = torch.rand(SIZE, generator=generator)
    strength = torch.stack([2.0 - 2.5 * hard, 2.6 - 2.5 * hard], 1) + torch.randn(SIZE, 2, generator=generator)
    signs = torch.nn.functional.one_hot(labels, 2).float() * 2 - 1
    logits = strength[..., None] * signs[:, None] / 2
    scores = torch.randn(SIZE, 2, generator=generator) - torch.stack([hard, -hard], 1)
    lengths, unknown = torch.full((SIZE,), 8), torch.full((SIZE,), -1)
    rows = (torch.arange(SIZE), logits, scores, scores.argmax(-1), labels, lengths, unknown)
    return Views.of(Predictions(*rows), GLUE["sst2"], tiny_model().cost, seed=1)
