from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sharcs_pl.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent


def sharcs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sharcs_pl", *arguments], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gets_its_overrides(command: str) -> None:
    done = sharcs(command, "eval_batch_size=7", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "\neval_batch_size: 7\n" in done.stdout


def test_help_lists_the_commands_and_an_unknown_one_is_refused() -> None:
    assert "train" in sharcs("--help").stdout
    done = sharcs("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown command 'trian'; choose one of: train, evaluate\n"
