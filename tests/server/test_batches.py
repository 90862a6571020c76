from __future__ import annotations

import itertools
from typing import Any

from sharcs_pl.server.batches import MEDIUM, SHORT, Batcher, Waiting

count = itertools.count()


def text(size: int, arrived: float = 0, deadline: float = 100, point: str = "trained", pair: bool = False) -> Waiting:
    found: Any = ("a" * (size - 1), "a") if pair else "a" * size
    return Waiting(str(next(count)), 0, found, point, arrived, deadline)


def batcher(*texts: Waiting, size: int = 3, max_wait: float = 1) -> Batcher:
    found = Batcher(size, max_wait, 64 * SHORT)
    for each in texts:
        found.add(each)
    return found


def test_a_batch_is_due_when_it_is_full_or_its_oldest_text_has_waited() -> None:
    one, two, three = text(5), text(6, 0.4), text(7, 0.5)
    waiting = batcher(one, two)
    assert waiting.take(0.9) == []
    assert waiting.wait(0.75) == 0.25
    waiting.add(three)
    assert waiting.wait(0.75) == 0
    assert waiting.take(0.75) == [one, two, three]
    assert waiting.wait(0.75) is None
    waiting.add(text(5, 2))
    assert waiting.take(2.5) == []
    assert len(waiting.take(3)) == 1


def test_no_more_than_a_batch_is_taken_the_oldest_first() -> None:
    texts = [text(5, number) for number in range(5)]
    waiting = batcher(*texts)
    assert waiting.take(4.5) == texts[:3]
    assert waiting.take(4.5) == texts[3:]


def test_texts_of_other_points_or_kinds_run_apart() -> None:
    texts = [text(5), text(5, 0.1, point="cheap"), text(5, 0.2, pair=True)]
    waiting = batcher(*texts)
    assert [waiting.take(2) for _ in range(4)] == [*([each] for each in texts), []]


def test_longer_texts_fill_what_the_shortest_leave() -> None:
    short, middle, long = text(SHORT, 0.3), text(SHORT + 1, 0.2), text(4 * SHORT + 1)
    waiting = batcher(long, middle, short)
    assert waiting.take(1) == [short, middle], "with the long one it would be more than three texts of medium length"
    assert waiting.take(1) == [long]
    assert batcher(long, middle, short, size=4).take(1) == [short, middle, long]


def test_a_batch_is_due_when_it_holds_as_much_as_it_may() -> None:
    texts = [text(MEDIUM), text(2 * MEDIUM)]
    assert batcher(*texts).take(0) == texts
    assert batcher(text(MEDIUM), text(2 * MEDIUM - 1)).take(0) == []


def test_what_does_not_fit_waits_for_a_batch_of_its_own() -> None:
    long = [text(2 * MEDIUM, number / 10) for number in range(2)]
    waiting = batcher(*long)
    assert [waiting.take(0.2), waiting.take(0.2), waiting.take(1.1)] == [[long[0]], [], [long[1]]]


def test_texts_count_for_no_longer_than_they_are_read() -> None:
    texts = [text(900 * SHORT) for _ in range(3)]
    found = Batcher(3, 1, MEDIUM)
    for each in texts:
        found.add(each)
    assert found.take(0) == texts


def test_a_short_text_waits_for_no_long_ones_that_came_before_it() -> None:
    long, short = [text(9 * SHORT) for _ in range(3)], text(5, 0.1)
    waiting = batcher(*long)
    assert waiting.take(0) == [long[0]], "it fills a batch"
    waiting.add(short)
    assert waiting.take(0.1) == [short]
    assert waiting.take(0.1) == [long[1]]


def test_a_long_text_is_not_passed_over_for_ever() -> None:
    long, short = text(9 * SHORT, 0, 100), [text(5, 4, 104) for _ in range(3)]
    waiting = batcher(long, *short)
    assert waiting.take(5) == short
    for each in short:
        waiting.add(each)
    assert waiting.take(10.1) == [long]


def test_texts_of_a_request_can_be_dropped() -> None:
    one, other, alone = text(5), text(5), text(SHORT * 2)
    waiting = batcher(one, other, alone)
    waiting.drop([one.request, alone.request])
    assert waiting.take(1) == [other]
    assert waiting.wait(1) is None


def test_texts_whose_time_is_over_are_dropped() -> None:
    kept = text(5, 0, 10)
    waiting = batcher(text(5, 0, 2), kept, text(SHORT * 2, 0, 2))
    assert waiting.take(3) == [kept]
    assert waiting.wait(3) is None
