"""Answer texts with a trained model: ``sharcs predict run=runs/mine input=data.jsonl output=pred.jsonl``."""

from __future__ import annotations

import os
import sys

from sharcs_pl.config.command_line import read_command, user_errors
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.pipeline.predict_file import run

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count


def main() -> None:
    """Run the command. The exit code is 2 for a mistake (one line on stderr), 130 for Ctrl-C, 143 for SIGTERM, and 141
    when the reader of stdout has gone."""
    with user_errors(PredictConfig):
        try:
            run(read_command("predict", PredictConfig, sys.argv[1:]))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written nowhere, at exit
            raise SystemExit(BROKEN_PIPE) from None


if __name__ == "__main__":
    main()
