"""What is said of the keys of a config, and what they take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sharcs_pl.config import RunConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.help import describe, takes_list
from sharcs_pl.core.decision import CERTAINTIES, RULES
from sharcs_pl.core.hardness import SCORES
from sharcs_pl.core.methods import METHODS, STOP_RULES
from sharcs_pl.core.widths import CUTS


def test_keys_that_take_a_list() -> None:
    lists = ("task.text", "task.labels", "task.metrics", "task.label", "width.bounds", "trainer.devices")
    assert all(takes_list(RunConfig, key) for key in lists)
    assert not any(
        takes_list(RunConfig, key) for key in ("task.positive", "task.dev", "seed", "optim.lr", "nope", "task")
    )


def test_every_field_says_what_it_is() -> None:
    """A string must stand under every field: it is the help text."""
    for schema in (RunConfig, EvaluateConfig):
        assert [key for key, _, text in describe(schema) if not text] == []
    assert ("optim.lr", "5e-05") in [(key, default) for key, default, _ in describe(RunConfig)]


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("method.rule", STOP_RULES),
        ("hardness.score", SCORES),
        ("router.rule", RULES),
        ("router.certainty", CERTAINTIES),
        ("method.cut", CUTS),
    ],
)
def test_the_help_of_a_choice_names_all_that_it_takes(key: str, choices: Iterable[str]) -> None:
    text = {name: said for name, _, said in describe(RunConfig)}[key]
    assert [name for name in choices if f"``{name}``" not in text] == []


def test_a_method_s_file_bears_its_name_and_every_method_has_one() -> None:
    folder = Path(__file__).parents[2] / "conf/method"
    found = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in folder.glob("*.yaml")}
    names = {stem: values["name"] for stem, values in found.items() if isinstance(values, dict)}
    assert names == {name: name for name in METHODS}
