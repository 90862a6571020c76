from __future__ import annotations

import warnings

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.config.command_line import hydra_raises, read_command, user_errors, wants_traceback
from sharcs_pl.config.predict import PredictConfig
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
