"""What a server offers, without a model behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sharcs_pl.server.offer import Offer


@pytest.fixture
def offer() -> Callable[..., Offer]:
    def made(**changes: Any) -> Offer:
        usual: dict[str, Any] = {
            "task": "custom",
            "columns": ("text",),
            "allow_empty": False,
            "labels": ("no", "yes"),
            "widths": ("0.5", "1"),
            "points": ("trained", "cheap"),
            "point": "trained",
            "max_length": 24,
            "settings": {},
        }
        return Offer(**{**usual, **changes})

    return made
