"""Answers that no int8 should give, for the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sharcs_pl.data.table import TokenTable
from sharcs_pl.inference.batches import Answers
from sharcs_pl.pipeline.gate import Answerer


def spoiled(answered: Callable[[Answerer, TokenTable], Answers]) -> Callable[[Answerer, TokenTable], Answers]:
    """Answers that are wrong in int8 wherever they are right in float32, which is asked first."""
    signs = iter((1, -1))

    def spoil(answer: Answerer, table: TokenTable) -> Answers:
        right = np.eye(2, dtype=np.float32)[table.labels]
        return replace(answered(answer, table), logits=next(signs) * right)

    return spoil
