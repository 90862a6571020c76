"""Windows of a stream, of as many items as a window takes, or as many as came while the first one waited."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

_END = object()
_POLL = 0.1  # seconds after which a feeder notices that nobody reads any more


def windows(source: Iterable[Any], size: int, max_wait: float | None = None) -> Iterator[tuple[list[Any], bool]]:
    """Yield (items, hurry) until the source ends; `items` are at most `size`.

    Without `max_wait` a window waits until it is full. With it (seconds) it closes that long after it opened, empty if
    need be, and `hurry` says that the source was slow: whatever waits anywhere should be answered now. The source is
    then read in a thread of its own, never more than a window ahead.
    """
    if max_wait is None:
        items = iter(source)
        while window := list(islice(items, size)):
            yield window, False
        return
    with _Feeder(source, size) as feeder:
        ended = False
        while not ended:
            window, ended, hurry = feeder.window(size, max_wait)
            if window or hurry:
                yield window, hurry


class _Feeder:
    """A reader of a source into a bounded queue; a full queue holds the source back."""

    def __init__(self, source: Iterable[Any], size: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(size)
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, args=(source,), daemon=True)

    def __enter__(self) -> _Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def window(self, size: int, max_wait: float) -> tuple[list[Any], bool, bool]:
        """Return (items, whether the source has ended, whether the wait ran out)."""
        found: list[Any] = []
        until = time.monotonic() + max_wait
        while len(found) < size:
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return found, False, True
            if item is _END:
                if self._error is not None:
                    raise self._error
                return found, True, False
            found.append(item)
        return found, False, False

    def _read(self, source: Iterable[Any]) -> None:
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again where the windows are read)
            self._error = error
        self._put(_END)

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False
