from __future__ import annotations

import warnings

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.command_line import hydra_raises, read_command, user_errors, wants_traceback
from sharcs_pl.config.errors import LONGEST_MESSAGE, explain, is_user_error, shorten, suggest
from sharcs_pl.config.help import takes_list
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.core.errors import DataWarning, Diverged


def leave(error: BaseException) -> int:
    with pytest.raises(SystemExit) as caught, user_errors(RunConfig):
        raise error
    return int(caught.value.code or 0)


def test_what_the_user_can_mend_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(28, "No space left on device", "runs/x/metrics.csv")
    assert (leave(ValueError("width\n  is bad")), leave(full)) == (2, 2)
    assert capsys.readouterr().err == (
        "error: width is bad\nerror: runs/x/metrics.csv: No space left on device\n"
    )  # fmt: skip


def test_a_diverged_run_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(Diverged("the loss is nan")) == 1
    assert capsys.readouterr().err == "error: the loss is nan\n"


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), user_errors(RunConfig):
        raise KeyError("a bug")


def test_hydras_switch_shows_the_traceback_also_of_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with hydra_raises():
        assert not wants_traceback()  # set here so that Hydra raises, not by the user
        assert leave(ValueError("bad")) == 2
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with hydra_raises(), pytest.raises(ValueError, match="bad"), user_errors(RunConfig):
        raise ValueError("bad")
    assert wants_traceback()


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


@pytest.mark.parametrize(
    ("value", "character"), [("tab", "\t"), ("\\t", "\t"), ("'\t'", "\t"), *((each, each) for each in "\t|;,^~#")]
)
def test_delimiters_pass_a_shell_and_hydra(value: str, character: str) -> None:
    config = read_command("predict", PredictConfig, ["run=x", "input=a", "output=b", f"delimiter={value}"])
    assert config.delimiter == character


def test_our_warnings_come_in_our_words(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), user_errors(RunConfig):
        warnings.simplefilter("always")
        warnings.warn("5 rows are short", DataWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: 5 rows are short\n"


def test_an_error_shows_what_a_terminal_would_obey() -> None:
    assert explain(ValueError("a.csv: '\x1b[31m\x1b]0;title\x07' [bold]x[/]"), RunConfig) == (
        r"a.csv: '\x1b[31m\x1b]0;title\x07' [bold]x[/]"
    )


def test_keys_that_take_a_list() -> None:
    lists = ("task.text", "task.labels", "task.metrics", "task.label_range", "width.bounds", "trainer.devices")
    assert all(takes_list(RunConfig, key) for key in lists)
    assert not any(takes_list(RunConfig, key) for key in ("task.label", "task.dev", "seed", "optim.lr", "nope", "task"))
