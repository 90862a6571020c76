from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sharcs_pl.__main__ import COMMANDS
from tests.commands import run_line

ROOT = Path(__file__).resolve().parent.parent


def sharcs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sharcs_pl", *arguments], capture_output=True, text=True, cwd=ROOT)


SET = {
    "train": ["eval_batch_size=7"],
    "evaluate": ["run=r", "eval_batch_size=7"],
    "predict": ["run=r", "input=a.csv", "output=b.csv", "batch_size=7"],
    "serve": ["run=r", "batch_size=7"],
    "calibrate": ["run=r", "budget=0.5", "eval_batch_size=7"],
    "export": ["run=r", "output=m.onnx", "opset=7"],
    "bench": ["samples=7"],
    "reorder": ["output=o", "samples=7"],
    "report": ["runs=[r]", "draws=700"],
}


@pytest.mark.parametrize("command", SET)
def test_a_command_gets_its_overrides(command: str) -> None:
    done = run_line(["sharcs_pl", command, *SET[command], "--cfg", "job"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"\n{SET[command][-1].replace('=', ': ')}\n" in f"\n{done.stdout}"


def test_lightnings_command_line_gets_its_arguments() -> None:
    pytest.importorskip("jsonargparse")
    done = run_line(["sharcs_pl", "cli", "fit", "--data.eval_batch_size=7", "--print_config"], cwd=ROOT, kind="loaded")
    assert done.returncode == 0, done.stderr
    assert "\n  eval_batch_size: 7\n" in done.stdout


def test_every_command_is_run() -> None:
    assert {*SET, "cli"} == set(COMMANDS)


def test_help_lists_the_commands_and_an_unknown_one_is_refused() -> None:
    assert "train" in sharcs("--help").stdout
    done = sharcs("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: unknown command 'trian'; choose one of: {', '.join(COMMANDS)}\n"
