"""Rows in memory, and the options of a call that trains on them for a second."""

from __future__ import annotations

from typing import Any

from sharcs_pl.data.synthetic import graded_examples

_EXAMPLES = graded_examples("train", size=90, seed=2)
ROWS = [
    {"review": text, "stars": ("bad", "good")[int(label)]}
    for (text,), label in zip(_EXAMPLES.texts, _EXAMPLES.labels, strict=True)
]
LIKE_TINY: dict[str, Any] = {
    "task.max_length": 32,
    "trainer.enable_progress_bar": False,
    "trainer.accelerator": "cpu",
    "hardness.window": 1,
    "trainer.max_epochs": 3,
    "batch_size": 8,
}
OWN: dict[str, Any] = {"text": "review", "label": "stars", "dev": 0.3, **LIKE_TINY}


def options(**changes: Any) -> dict[str, Any]:
    """`OWN` with changes."""
    return OWN | changes
