"""The texts that measure importance: a seeded draw, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.data.sampler import EvalDataset
from sharcs_pl.data.table import TokenTable


def drawn(table: TokenTable, count: int | None, seed: int) -> TokenTable:
    """Return `count` samples drawn with the seed, all of them in a drawn order for None."""
    return table.subset(np.random.default_rng(seed).permutation(len(table))[:count])


def batches(table: TokenTable, size: int, device: torch.device | str) -> Iterator[dict[str, Tensor]]:
    """Yield the samples by length, longest first, so that little is padded."""
    for rows in EvalDataset(table, size).batches:
        yield {name: value.to(device) for name, value in table.collate(rows).items()}
