"""Clients of a server of texts: as fast as they are answered, or at an offered load, each request timed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

REFUSED = 0  # the status of a request whose connection was refused or cut


@dataclass(frozen=True)
class Asked:
    """A request's body, the status and the answer it got, when it was due and when it was answered."""

    body: dict[str, Any] | str
    status: int
    answer: dict[str, Any]
    due: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.due


class Clients:
    """Threads with a connection each."""

    def __init__(self, port: int, number: int) -> None:
        self.port, self.number = port, number
        self._own = threading.local()

    def closed(self, bodies: Sequence[Any]) -> list[Asked]:
        """Ask for each body once, every client its next as soon as it has an answer."""
        with ThreadPoolExecutor(self.number) as pool:
            return list(pool.map(lambda body: self._ask(body, time.perf_counter()), bodies))

    def offered(self, bodies: Sequence[Any], per_second: float, seed: int = 0) -> list[Asked]:
        """Ask at random times, `per_second` on average, whether earlier requests are answered or not."""
        gaps = np.random.default_rng(seed).exponential(1 / per_second, len(bodies))
        times = time.perf_counter() + 0.2 + gaps.cumsum()
        with ThreadPoolExecutor(self.number) as pool:
            return list(pool.map(self._at, bodies, times.tolist()))

    def _at(self, body: Any, due: float) -> Asked:
        time.sleep(max(0.0, due - time.perf_counter()))
        return self._ask(body, due)

    def _ask(self, body: Any, due: float) -> Asked:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        old = hasattr(self._own, "connection")
        try:
            if not old:
                self._own.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            self._own.connection.request("POST", "/predict", raw, {"Content-Type": "application/json"})
            response = self._own.connection.getresponse()
            status, answer = response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            del self._own.connection
            if old:  # a server closes a connection that nobody uses for seconds
                return self._ask(body, due)
            status, answer = REFUSED, {"error": str(error)}
        return Asked(body, status, answer, due, time.perf_counter())


def summary(found: Sequence[Asked]) -> dict[str, Any]:
    """The answered texts per second, the percentiles of their milliseconds, and the requests by status."""
    good = [each for each in found if each.status == 200]
    wall = max(each.ended for each in found) - min(each.due for each in found)
    told: dict[str, Any] = {"statuses": dict(sorted(Counter(each.status for each in found).items()))}
    told["per_second"] = round(sum(texts_of(each.body) for each in good) / wall, 2)
    times = [1000 * each.seconds for each in good] or [float("nan")]
    return told | {f"p{q}_ms": round(float(np.percentile(times, q)), 1) for q in (50, 95, 99)}


def texts_of(body: Any) -> int:
    """The number of texts of a good body."""
    return len(body["texts"]) if "texts" in body else 1
