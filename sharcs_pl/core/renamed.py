"""Names that have changed. A user may still type the earlier ones, and earlier runs have saved them."""

from __future__ import annotations

CUSTOM = "custom"  # the task whose data is the user's own
EARLIER_TASKS = {"own": CUSTOM}


def current_task(name: str) -> str:
    """The name that a task has now."""
    return EARLIER_TASKS.get(name, name)
