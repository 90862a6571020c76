"""Windows of a stream: order, back-pressure, slow and failing sources."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sharcs_pl.inference.read_ahead import windows


@pytest.mark.parametrize("max_wait", [None, 30.0])
def test_windows_are_full_but_the_last(max_wait: float | None) -> None:
    assert list(windows(range(7), 3, max_wait)) == [([0, 1, 2], False), ([3, 4, 5], False), ([6], False)]
    assert not list(windows([], 3, max_wait))


def test_a_slow_source_is_answered_in_time() -> None:
    gate = threading.Event()

    def source() -> Iterator[int]:
        yield from (0, 1)
        gate.wait(30)
        yield 2

    found = windows(source(), 8, 0.05)
    items, hurry = next(found)
    while not items:
        items, hurry = next(found)
    assert (items, hurry) == ([0, 1], True)
    gate.set()
    assert [item for items, _ in found for item in items] == [2]


@pytest.mark.parametrize("max_wait", [None, 30.0])
def test_no_more_is_read_than_is_held(max_wait: float | None) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    found = windows(source(), 4, max_wait)
    next(found)
    assert len(read) <= 4 + 4 + 1  # the window, the queue, and one in the feeder's hand


@pytest.mark.parametrize("max_wait", [None, 30.0])
def test_the_sources_error_is_raised(max_wait: float | None) -> None:
    def source() -> Iterator[int]:
        yield 0
        raise ValueError("line 2")

    with pytest.raises(ValueError, match="line 2"):
        list(windows(source(), 4, max_wait))


def test_the_feeder_stops_when_nobody_reads_on() -> None:
    before = threading.active_count()
    found = windows(iter(int, 1), 4, 30.0)
    next(found)
    found.close()  # type: ignore[attr-defined]
    feeder = [thread for thread in threading.enumerate() if thread.daemon and "_read" in thread.name]
    for thread in feeder:
        thread.join(5)
    assert threading.active_count() <= before
