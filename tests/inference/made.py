"""Texts and batches of ids that several modules ask a model about."""

from __future__ import annotations

import random

import numpy as np

from sharcs_pl.inference.batches import Batch
from tests.inference.conftest import WORDS

LENGTHS = np.array([9, 4, 7, 2, 9, 5, 6, 3, 8, 9, 2, 4])


def batch(start: int = 0) -> Batch:
    ids = np.random.default_rng(start).integers(4, 20, (12, 9))
    return Batch(np.arange(start, start + 12), np.where(np.arange(9) < LENGTHS[:, None], ids, 0), LENGTHS)


def texts(number: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(0, 40))) for _ in range(number)]
