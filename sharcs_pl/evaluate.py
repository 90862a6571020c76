"""Evaluate a trained model, or predict a test set: ``sharcs evaluate run=runs/mine split=test``."""

from __future__ import annotations

from sharcs_pl.config.command_line import run_command
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.pipeline.evaluate import run


def main() -> None:
    """Run the command; a mistake is one line on stderr and exit code 2."""
    run_command("evaluate", EvaluateConfig, run)


if __name__ == "__main__":
    main()
