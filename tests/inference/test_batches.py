from __future__ import annotations

import numpy as np

from sharcs_pl.inference.batches import Answers, cuts, real_tokens, row_places

LENGTHS = np.array([2, 3, 1, 2])


def test_tokens_of_some_samples_in_any_order() -> None:
    assert real_tokens(LENGTHS, np.arange(4)).tolist() == list(range(8))
    assert real_tokens(LENGTHS, np.array([3, 1])).tolist() == [6, 7, 2, 3, 4]
    assert real_tokens(LENGTHS, np.array([], np.int64)).tolist() == []


def test_places_of_real_tokens_in_padded_rows() -> None:
    assert row_places(LENGTHS, 3).tolist() == [0, 1, 3, 4, 5, 6, 9, 10]


def test_joined_answers_are_in_the_order_of_the_parts() -> None:
    def part(*index: int) -> Answers:
        numbers = np.array(index)
        return Answers(numbers, numbers[:, None] * 0.5, numbers, numbers[:, None], numbers, numbers, numbers[:, None])

    found = Answers.join([part(3, 1), part(2)])
    assert found.index.tolist() == found.first.tolist() == [3, 1, 2]
    assert found.logits.tolist() == [[1.5], [0.5], [1.0]]


def test_batches_end_at_their_size_or_before_their_tokens() -> None:
    lengths = np.array([2, 3, 3, 5, 20, 4, 4, 4])
    assert cuts(lengths, 3, None) == [(0, 3), (3, 6), (6, 8)]
    assert cuts(lengths, 3, 10) == [(0, 3), (3, 4), (4, 5), (5, 7), (7, 8)]  # 2 x 5 tokens fit, and 20 stand alone
    assert cuts(lengths[:4], 9, 15) == [(0, 3), (3, 4)]
    assert cuts(lengths[:0], 3, 10) == cuts(lengths[:0], 3, None) == []
