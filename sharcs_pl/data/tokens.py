"""Token ids of samples, one after the other, and their batches. Loads no torch.

Dimensions: `B` batch, `L` tokens of the longest sample of a batch, `S` samples, `T` tokens of all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids of samples. `input_ids`: int32 [T]. `token_type_ids`: uint8 [T] or None. `offsets`: int64 [S+1]; sample
    i has the tokens `offsets[i]:offsets[i+1]`. `pad_id` fills the rows of a batch."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray | None
    offsets: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each sample without padding and with special tokens, [S] int64."""
        return np.diff(self.offsets)

    def padded(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Return samples as a batch, padded on the right to the longest.

        `input_ids`, `attention_mask` and (if the encoder has them) `token_type_ids` are int64 [B, L]. No indices give
        `B == 0` and `L == 1`.
        """
        index = np.asarray(indices, dtype=np.int64)
        starts = self.offsets[index]
        lengths = self.offsets[index + 1] - starts
        steps = np.arange(max(1, lengths.max(initial=0)))
        mask = steps < lengths[:, None]
        where = (starts[:, None] + steps)[mask]
        batch = {"input_ids": _scatter(self.input_ids, where, mask, self.pad_id)}
        batch["attention_mask"] = mask.astype(np.int64)
        if self.token_type_ids is not None:
            batch["token_type_ids"] = _scatter(self.token_type_ids, where, mask, 0)
        return batch


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the offsets of samples of these lengths, int64 [S+1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _scatter(flat: np.ndarray, where: np.ndarray, mask: np.ndarray, fill: int) -> np.ndarray:
    padded = np.full(mask.shape, fill, dtype=np.int64)
    padded[mask] = flat[where]
    return padded
