"""What is said of the keys of a config, and what they take."""

from __future__ import annotations

from sharcs_pl.config import RunConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.help import describe, takes_list


def test_keys_that_take_a_list() -> None:
    lists = ("task.text", "task.labels", "task.metrics", "task.label_range", "width.bounds", "trainer.devices")
    assert all(takes_list(RunConfig, key) for key in lists)
    assert not any(takes_list(RunConfig, key) for key in ("task.label", "task.dev", "seed", "optim.lr", "nope", "task"))


def test_every_field_says_what_it_is() -> None:
    """A string must stand under every field: it is the help text."""
    for schema in (RunConfig, EvaluateConfig):
        assert [key for key, _, text in describe(schema) if not text] == []
    assert ("optim.lr", "5e-05") in [(key, default) for key, default, _ in describe(RunConfig)]
