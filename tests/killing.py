"""Children that are killed: after a time by their parent, or at one of their own calls by themselves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any


class Fuse:
    """A number of calls that are `left`, at the last of which this process is killed."""

    def __init__(self, left: int) -> None:
        self.left = left

    def tick(self) -> None:
        """Count a call."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls are counted before they are made."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return function(*args, **kwargs)

        return wrapped


def wait_or_kill(pid: int, seconds: float) -> int:
    """Wait for a child, kill it after a time unless it ends before; its exit status, -9 when it was killed."""
    deadline = time.monotonic() + seconds
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            found = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])
