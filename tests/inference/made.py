"""Texts and batches of ids that several modules ask a model about."""

from __future__ import annotations

import random

import torch

from sharcs_pl.inference.engine import Batch
from tests.inference.conftest import WORDS

LENGTHS = torch.tensor([9, 4, 7, 2, 9, 5, 6, 3, 8, 9, 2, 4])


def batch(start: int = 0) -> Batch:
    ids = torch.randint(4, 20, (12, 9), generator=torch.Generator().manual_seed(start))
    ids = ids.masked_fill(torch.arange(9) >= LENGTHS[:, None], 0)
    return Batch(torch.arange(start, start + 12), ids, LENGTHS)


def texts(number: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(0, 40))) for _ in range(number)]
