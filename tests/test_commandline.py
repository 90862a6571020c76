from __future__ import annotations

import warnings

import pytest

from sharcs_pl.commandline import LONGEST_MESSAGE, explain, hydra_raises, shorten, suggest, user_errors, wants_traceback
from sharcs_pl.config import RunConfig
from sharcs_pl.core.finite import Diverged
from sharcs_pl.data.spec import DataWarning


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


def test_our_warnings_come_in_our_words(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), user_errors(RunConfig):
        warnings.simplefilter("always")
        warnings.warn("5 rows are short", DataWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: 5 rows are short\n"


def test_an_error_shows_what_a_terminal_would_obey() -> None:
    assert explain(ValueError("a.csv: '\x1b[31m\x1b]0;title\x07' [bold]x[/]"), RunConfig) == (
        r"a.csv: '\x1b[31m\x1b]0;title\x07' [bold]x[/]"
    )
