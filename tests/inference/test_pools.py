"""What waits in a pool comes out once, in full groups, unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.inference.pools import Group, RungPool


def group(*lengths: int, start: int = 0) -> Group:
    """Samples whose every token holds their index."""
    index = np.arange(start, start + len(lengths))
    hidden = torch.from_numpy(np.repeat(index, lengths)).float()[:, None].expand(-1, 4)
    return Group(0, index, hidden, np.array(lengths), index[:, None], index, np.zeros((len(index), 0, 2)))


def check(found: Group) -> None:
    assert found.hidden[:, 0].tolist() == np.repeat(found.index, found.lengths).tolist()
    assert found.router_logits[:, 0].tolist() == found.index.tolist()


@pytest.mark.parametrize("sizes", [[3, 3, 3], [1] * 9, [9], [4, 5], [8, 1]])
def test_groups_are_full_and_every_sample_comes_out_once(sizes: list[int]) -> None:
    pool, found, start = RungPool(0, 4), [], 0
    for size in sizes:
        given = group(*(1 + (start + i) * 5 % 7 for i in range(size)), start=start)
        found += list(pool.add(given))
        start += size
        assert pool.waiting < 4
    assert all(len(full) == 4 for full in found)
    found.append(pool.take())
    for full in found:
        check(full)
    assert np.concatenate([full.index for full in found]).tolist() == list(range(9))
    assert pool.waiting == 0


def test_the_oldest_is_the_smallest_index_that_waits() -> None:
    pool = RungPool(0, 8)
    assert not list(pool.add(group(2, 2, start=7)))
    assert not list(pool.add(group(2, start=3)))
    assert (pool.oldest, pool.waiting) == (3, 3)


def test_what_waits_does_not_keep_its_batch_in_memory() -> None:
    batch = torch.zeros(64 * 5, 4)
    pool = RungPool(0, 8)
    assert not list(pool.add(two_rows(batch[:10])))
    assert pool.take().hidden.untyped_storage().nbytes() == 2 * 5 * 4 * 4


def test_what_waits_is_not_overwritten_with_the_memory_of_a_runtime() -> None:
    memory = np.zeros((64 * 5, 4), np.float32)
    pool = RungPool(0, 8)
    assert not list(pool.add(two_rows(memory[:10])))
    memory[:] = 1
    assert (pool.take().hidden == 0).all()


def two_rows(hidden: Any) -> Group:
    number = np.arange(2)
    return Group(0, number, hidden, np.array([5, 5]), np.zeros((2, 1)), number, np.zeros((2, 0, 2)))
