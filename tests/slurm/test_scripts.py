"""What can be said of the scripts without SLURM."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "slurm").glob("*.sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_option_stands_before_the_first_command(script: Path) -> None:
    """``sbatch`` reads no option after that, and says nothing."""
    lines = script.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options
    assert max(options) < first
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append"} <= set(lines)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_can_read_it(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False).stderr == ""
