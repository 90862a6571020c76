"""Layouts of a batch's tokens in memory: in rows padded to the longest sample, or packed one after the other.

Products, norms and activations of packed tokens cost nothing for padding; attention alone spreads them over rows. That
costs copies, so it pays where there is enough padding to save.

Dimensions: `B` batch, `L` tokens of the longest sample, `T` real tokens of all samples, `D` hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.inference.batches import row_places


@dataclass(frozen=True)
class Layout:
    """A layout of tokens. `mask` [B, L] long is 1 at real tokens, None where every sample fills its row. `places` [T]
    long are the packed tokens' places in B * L, None for a hidden state in rows."""

    mask: Tensor | None = None
    places: Tensor | None = None

    def spread(self, tokens: Tensor) -> Tensor:
        """Return the tokens in rows, as attention reads them: [T, D] packed or [B, L, D] in rows -> [B, L, D]."""
        if self.places is None:
            return tokens
        assert self.mask is not None
        rows = tokens.new_zeros(self.mask.numel(), tokens.shape[-1])
        return rows.index_copy_(0, self.places, tokens).view(*self.mask.shape, -1)

    def collect(self, rows: Tensor) -> Tensor:
        """Undo `spread`: [B, L, D] -> [T, D] packed, or unchanged."""
        return rows if self.places is None else rows.flatten(0, 1)[self.places]

    def first(self, tokens: Tensor) -> Tensor:
        """Return the first token of each sample, [B, D]."""
        if self.places is None:
            return tokens[:, 0]
        assert self.mask is not None
        return tokens[self.mask.sum(1).cumsum(0) - self.mask.sum(1)]

    def mean(self, tokens: Tensor) -> Tensor:
        """Return the mean over each sample's real tokens, [B, D]."""
        if self.mask is None:
            return tokens.mean(1)
        if self.places is None:
            return (tokens * self.mask.to(tokens.dtype)[..., None]).sum(1) / self.mask.sum(1, keepdim=True)
        if tokens.is_cuda:  # index_add_ adds in no fixed order there
            return self.spread(tokens).sum(1) / self.mask.sum(1, keepdim=True)
        sample = torch.div(self.places, self.mask.shape[1], rounding_mode="floor")
        sums = tokens.new_zeros(len(self.mask), tokens.shape[-1]).index_add_(0, sample, tokens)
        return sums / self.mask.sum(1, keepdim=True)


def layout_of(lengths: np.ndarray, pack_above: float, keep_mask: bool, device: torch.device) -> Layout:
    """Return the layout for samples of these lengths, int64 [B]: packed where more than `pack_above` of the rows would
    be padding. With `keep_mask` it has a mask even where none is needed."""
    longest = int(lengths.max())
    padding = 1 - int(lengths.sum()) / (len(lengths) * longest)
    if padding == 0 and not keep_mask:
        return Layout()
    mask = torch.from_numpy((np.arange(longest) < lengths[:, None]).astype(np.int64))
    places = torch.from_numpy(row_places(lengths, longest)).to(device) if padding > pack_above else None
    return Layout(mask.to(device), places)
