"""The headline compares the best routed variant with the best dense one, of those that are good enough."""

from __future__ import annotations

import numpy as np
import pytest

from sharcs_pl.analysis.benchmark.latency import Pass, Timed, Variant
from sharcs_pl.analysis.benchmark.speed import headline, told


def timed(name: str, kind: str, seconds: list[float], value: float | None = None) -> Timed:
    variant = Variant(name, lambda: Pass(1, np.zeros(1)), 1.0, value, kind=kind)
    return Timed(variant, 8, seconds, np.zeros(1), seconds, seconds)


STOCK = timed("stock", "dense", [4.0, 4.0, 4.0], 0.9)
FAST = timed("dense, int8", "dense", [2.0, 2.2, 2.0], 0.895)
FASTEST = timed("dense, broken", "dense", [0.5, 0.5, 0.5], 0.5)
WIDTH = timed("all width 0.25", "width", [0.1, 0.1, 0.1], 0.9)
SLOW = timed("routed", "routed", [1.6, 1.6, 1.6], 0.9)
ROUTED = timed("routed, int8", "routed", [1.0, 1.0, 1.0], 0.891)
BAD = timed("routed, broken", "routed", [0.2, 0.2, 0.2], 0.6)


def test_the_fastest_of_the_good_ones_are_compared_round_by_round() -> None:
    found = headline([STOCK, FAST, FASTEST, WIDTH, SLOW, ROUTED, BAD], 0.01)
    assert found is not None
    assert (found["routed"], found["dense"]) == ("routed, int8", "dense, int8")
    assert (found["speedup"], found["middle_half"]) == (2.0, [2.0, pytest.approx(2.1)])
    assert told(found, "accuracy") == (
        "routed, int8 is 2.00x as fast (2.00 to 2.10) as dense, int8, the fastest dense variant of its quality: "
        "accuracy 0.8910 against 0.8950"
    )
    strict = headline([STOCK, FAST, SLOW, ROUTED], 0.0)
    assert strict is not None
    assert (strict["routed"], strict["dense"]) == ("routed", "stock")


def test_without_labels_all_are_good_and_without_a_routed_one_there_is_none() -> None:
    plain = [timed("stock", "dense", [4.0]), timed("routed", "routed", [1.0])]
    found = headline(plain, 0.01)
    assert found is not None
    assert told(found, None) == "routed is 4.00x as fast (4.00 to 4.00) as stock, the fastest dense variant"
    assert headline(plain[:1], 0.01) is None
