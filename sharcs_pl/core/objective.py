"""The values of a run that a sweeper optimises: its metric, its cost, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DIRECTIONS = {"metric": "maximize", "cost": "minimize"}
"""The names that ``objective`` takes, with the direction that each is optimised in."""

_FIELDS = {"metric": "value", "cost": "macs_fraction"}  # of the routed point in metrics.json


def names_of(objective: Any) -> tuple[str, ...]:
    """Return the names that ``objective`` gives, one or a list of them. Of anything else there are none."""
    given = (objective,) if isinstance(objective, str) or not isinstance(objective, Sequence) else tuple(objective)
    return given if all(isinstance(name, str) for name in given) else ()


def objective_value(metrics: Mapping[str, Any], objective: Any) -> float | tuple[float, ...]:
    """Return the routed metric or the cost as a fraction of dense, or the tuple of several, of ``metrics.json``."""
    found = tuple(float(metrics["routed"][_FIELDS[name]]) for name in names_of(objective))
    return found[0] if len(found) == 1 else found
