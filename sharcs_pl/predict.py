"""Answer texts with a trained model: ``sharcs predict run=runs/mine input=data.jsonl output=pred.jsonl``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sharcs_pl.config.command_line import read_command, user_errors
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.inference.many import is_many
from sharcs_pl.pipeline.predict_file import predict_file
from sharcs_pl.pipeline.predict_files import predict_files

if TYPE_CHECKING:
    from sharcs_pl.inference.summary import Summary

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count


def main() -> None:
    """Run the command. The exit code is 2 for a mistake (one line on stderr), 1 when some of many files could not be
    answered, 130 for Ctrl-C, 143 for SIGTERM, and 141 when the reader of stdout has gone."""
    with user_errors(PredictConfig):
        try:
            run(read_command("predict", PredictConfig, sys.argv[1:]))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written nowhere, at exit
            raise SystemExit(BROKEN_PIPE) from None


def run(config: PredictConfig) -> Summary:
    """Predict one file or many; return what the table on stderr shows, of many their total."""
    return predict_files(config) if is_many(config.input) else predict_file(config)


if __name__ == "__main__":
    main()
