from __future__ import annotations

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from sharcs_pl.server.metrics import Metrics


def told(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels in the order of their names."""
    families = text_string_to_metric_families(metrics.told().decode())
    return {
        (each.name, *dict(sorted(each.labels.items())).values()): each.value
        for family in families
        for each in family.samples
    }


def test_shares_and_costs_are_told_by_width() -> None:
    metrics = Metrics(["0.5", "1"], ["trained"])
    assert told(metrics)["sharcs_width_share", "0.5"] == 0
    metrics.answered(
        [{"width": "0.5", "macs": 10}, {"width": "0.5", "macs": 20}, {"width": "1", "macs": 90}], "trained"
    )
    metrics.answered([{"width": "0.5", "macs": 5}], "cheap")
    found = told(metrics)
    assert (found["sharcs_width_share", "0.5"], found["sharcs_width_share", "1"]) == (0.75, 0.25)
    assert (found["sharcs_macs_total", "0.5"], found["sharcs_macs_total", "1"]) == (35, 90)
    assert (found["sharcs_texts_total", "trained", "0.5"], found["sharcs_texts_total", "cheap", "0.5"]) == (2, 1)


def test_requests_are_counted_by_status_and_timed_where_they_are_answered() -> None:
    metrics = Metrics(["1"], ["trained"])
    metrics.ended(200, 0.03)
    metrics.ended(200, 0.3)
    metrics.ended(429, 0.001)
    found = told(metrics)
    assert (found["sharcs_requests_total", "200"], found["sharcs_requests_total", "429"]) == (2, 1)
    assert found[("sharcs_request_seconds_count",)] == 2
    assert found["sharcs_request_seconds_bucket", "0.05"] == 1


def test_the_point_in_use_is_told() -> None:
    metrics = Metrics(["1"], ["trained", "cheap"])
    assert [told(metrics)[name] for name in POINTS] == [0, 1, 0]
    metrics.use("cheap")
    assert [told(metrics)[name] for name in POINTS] == [1, 0, 1]
    metrics.use("trained")
    assert [told(metrics)[name] for name in POINTS] == [0, 1, 0]


POINTS = [("sharcs_overload",), ("sharcs_point", "trained"), ("sharcs_point", "cheap")]
