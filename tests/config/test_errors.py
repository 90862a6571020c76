"""What is told of a mistake: one line of bearable length with the nearest key or the right way to type it."""

from __future__ import annotations

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.errors import LONGEST_MESSAGE, explain, is_user_error, shorten, suggest
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.config.reorder import ReorderConfig


def test_a_long_message_keeps_both_ends() -> None:
    line = shorten("start " + "x" * 2000 + " end")
    assert len(line) <= LONGEST_MESSAGE
    assert line.startswith("start ")
    assert line.endswith(" end")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("optim.lrr", "did you mean optim.lr?"),
        ("window", "did you mean hardness.window?"),
        ("tasks", "did you mean task?"),
        ("optim.momentum", "optim has lr, weight_decay"),
        ("zzz", "--cfg job prints all keys"),
    ],
)
def test_a_key_that_is_not_there_gets_the_nearest(key: str, hint: str) -> None:
    assert hint in suggest(key, RunConfig)


@pytest.mark.parametrize(
    ("schema", "override", "message"),
    [
        (PredictConfig, "text=q,a", "text=q,a is no list; did you mean 'text=[q,a]'?"),
        (PredictConfig, "keep=a, b", "keep=a, b is no list; did you mean 'keep=[a, b]'?"),
        (PredictConfig, "text=q,", "cannot read 'text=q,' as key=value; a list is one word in brackets: 'text=[q,…]'"),
        (
            PredictConfig,
            "batch_size=1,2",
            "batch_size=1,2: one value is expected",
        ),
        (ReorderConfig, "task.labels=a,b", "task.labels=a,b is no list; did you mean 'task.labels=[a,b]'?"),
        (ReorderConfig, "task.metrics=f1", "task.metrics=f1 is no list; did you mean 'task.metrics=[f1]'?"),
        (ReorderConfig, "width.multipliers=0.5,1", "did you mean 'width.multipliers=[0.5,1]'?"),
        (BenchConfig, "shares=0.5", "shares=0.5 is no list; did you mean 'shares=[0.5]'?"),
        (PredictConfig, "delimiter=t", "delimiter=t is no delimiter; give one character, or one of: comma"),
    ],
)
def test_what_hydra_cannot_take_is_told_as_it_should_be_typed(schema: type, override: str, message: str) -> None:
    name = schema.__name__.removesuffix("Config").lower()
    with pytest.raises(Exception) as caught:
        read_command(name, schema, [*(["run=x", "input=a", "output=b"] if name == "predict" else []), override])
    assert is_user_error(caught.value)
    assert message in explain(caught.value, schema)


def test_an_error_shows_what_a_terminal_would_obey() -> None:
    assert explain(ValueError("a.csv: '\x1b[31m\x1b]0;title\x07' [bold]x[/]"), RunConfig) == (
        r"a.csv: '\x1b[31m\x1b]0;title\x07' [bold]x[/]"
    )
