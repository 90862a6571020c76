from __future__ import annotations

import pytest

from sharcs_pl.core.objective import DIRECTIONS, names_of, objective_value

METRICS = {"routed": {"value": 0.75, "macs_fraction": 0.5}}


@pytest.mark.parametrize(
    ("objective", "value"),
    [("metric", 0.75), (["cost"], 0.5), (["metric", "cost"], (0.75, 0.5)), (("cost", "metric"), (0.5, 0.75))],
)
def test_the_values_are_those_named_in_their_order(
    objective: str | list[str], value: float | tuple[float, ...]
) -> None:
    assert objective_value(METRICS, objective) == value
    assert set(names_of(objective)) <= set(DIRECTIONS)


@pytest.mark.parametrize("objective", [None, 3, [["metric"]], ["metric", 1], {"metric": 1}, []])
def test_what_names_nothing_has_no_names(objective: object) -> None:
    assert names_of(objective) == ()
