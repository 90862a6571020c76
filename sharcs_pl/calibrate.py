"""Set the budget of a trained model: ``sharcs calibrate run=runs/mine budget=0.6``, or ``max_drop=0.01``.

The texts are answered in float32, as ``sharcs predict`` answers, whatever precision the run was trained in.
"""

from __future__ import annotations

from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.command_line import run_command
from sharcs_pl.pipeline.calibrate import run


def main() -> None:
    """Run the command; a mistake, or a promise that the texts do not support, is one line on stderr and exit code 2."""
    run_command("calibrate", CalibrateConfig, run)


if __name__ == "__main__":
    main()
