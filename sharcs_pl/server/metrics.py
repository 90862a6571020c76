"""What a server has done and is doing, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one server.

    Args:
        widths: the model's widths, narrow first.
        points: the operating points a request without one may be answered by, the usual one first.
    """

    def __init__(self, widths: Iterable[str], points: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        shared: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("sharcs_requests", "Requests to /predict by status", ["status"], **shared)
        self.seconds = Histogram("sharcs_request_seconds", "Time to an answer", buckets=SECONDS, **shared)
        self.rejected = Counter("sharcs_rejected", "Texts refused for a full queue", **shared)
        self.queue = Gauge("sharcs_queue_texts", "Texts accepted and not answered yet", **shared)
        self.texts = Counter(
            "sharcs_texts", "Texts answered by width and operating point", ["width", "point"], **shared
        )
        self.macs = Counter("sharcs_macs", "Multiply-adds spent by width", ["width"], **shared)
        self.share = Gauge("sharcs_width_share", "Share of the answered texts that ran at a width", ["width"], **shared)
        self.overload = Gauge("sharcs_overload", "1 while the point of an overload is in use", **shared)
        self.point = Gauge("sharcs_point", "1 for the point of a request that names none", ["point"], **shared)
        self._counts = dict.fromkeys(widths, 0)
        for width in self._counts:
            self.macs.labels(width)
        self._points = tuple(dict.fromkeys(points))
        self.use(self._points[0])

    def use(self, point: str) -> None:
        """Tell the operating point of a request that names none."""
        for name in self._points:
            self.point.labels(name).set(name == point)
        self.overload.set(point != self._points[0])

    def ended(self, status: int, seconds: float) -> None:
        """Count a request; its time counts where it was answered."""
        self.requests.labels(status).inc()
        if status == 200:
            self.seconds.observe(seconds)

    def answered(self, records: Iterable[dict[str, Any]], point: str) -> None:
        """Count answers."""
        for record in records:
            self.texts.labels(record["width"], point).inc()
            self.macs.labels(record["width"]).inc(record["macs"])
            self._counts[record["width"]] += 1

    def told(self) -> bytes:
        """Return all of it in the text format."""
        total = sum(self._counts.values())
        for width, count in self._counts.items():
            self.share.labels(width).set(count / total if total else 0)
        return generate_latest(self.registry)
