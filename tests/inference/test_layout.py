"""Packed tokens and rows are the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sharcs_pl.inference.layout import layout_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("lengths", [[3, 1, 4], [2, 2], [1], [5, 1, 1, 1]])
def test_spreading_and_collecting_are_inverse_and_padding_is_zero(lengths: list[int]) -> None:
    layout = layout_of(np.array(lengths), 0.0, keep_mask=True, device=CPU)
    if layout.places is None:
        assert len(set(lengths)) == 1
        return
    tokens = torch.randn(sum(lengths), 3)
    rows = layout.spread(tokens)
    for row, length, own in zip(rows, lengths, tokens.split(lengths), strict=True):
        assert torch.equal(row[:length], own)
        assert not row[length:].any()
    assert torch.equal(layout.collect(rows), tokens)
    assert torch.equal(layout.first(tokens), torch.stack([own[0] for own in tokens.split(lengths)]))
    torch.testing.assert_close(layout.mean(tokens), torch.stack([own.mean(0) for own in tokens.split(lengths)]))


def test_a_mask_and_packing_only_where_they_pay() -> None:
    whole, some = np.array([4, 4]), np.array([4, 2])  # a quarter is padding
    assert layout_of(whole, 0.0, keep_mask=False, device=CPU).mask is None
    assert layout_of(whole, 0.0, keep_mask=True, device=CPU).mask is not None
    assert layout_of(some, 0.3, keep_mask=False, device=CPU).places is None
    assert layout_of(some, 0.2, keep_mask=False, device=CPU).places is not None


def test_padding_of_rows_is_no_part_of_the_mean() -> None:
    layout = layout_of(np.array([3, 1]), 1.0, keep_mask=False, device=CPU)
    rows = torch.tensor([[[1.0], [2.0], [6.0]], [[5.0], [100.0], [100.0]]])
    assert layout.mean(rows).tolist() == [[3.0], [5.0]]
    assert layout.first(rows).tolist() == [[1.0], [5.0]]
