"""What waits in a pool comes out once, in full groups, unchanged."""

from __future__ import annotations

import pytest
import torch

from sharcs_pl.inference.pools import Group, RungPool


def group(*lengths: int, start: int = 0) -> Group:
    """Samples whose every token holds their index."""
    index = torch.arange(start, start + len(lengths))
    hidden = torch.repeat_interleave(index, torch.tensor(lengths)).float()[:, None].expand(-1, 4)
    return Group(0, index, hidden, torch.tensor(lengths), index[:, None].float(), index, torch.zeros(len(index), 0, 2))


def check(found: Group) -> None:
    assert found.hidden[:, 0].tolist() == torch.repeat_interleave(found.index, found.lengths).tolist()
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
    assert torch.cat([full.index for full in found]).tolist() == list(range(9))
    assert pool.waiting == 0


def test_the_oldest_is_the_smallest_index_that_waits() -> None:
    pool = RungPool(0, 8)
    assert not list(pool.add(group(2, 2, start=7)))
    assert not list(pool.add(group(2, start=3)))
    assert (pool.oldest, pool.waiting) == (3, 3)


def test_what_waits_does_not_keep_its_batch_in_memory() -> None:
    batch = torch.zeros(64 * 5, 4)
    pool = RungPool(0, 8)
    number = torch.arange(2)
    rows = Group(0, number, batch[:10], torch.tensor([5, 5]), torch.zeros(2, 1), number, torch.zeros(2, 0, 2))
    assert not list(pool.add(rows))
    assert pool.take().hidden.untyped_storage().nbytes() == 2 * 5 * 4 * 4
