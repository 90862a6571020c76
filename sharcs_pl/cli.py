"""Lightning's own command line: ``python -m sharcs_pl.cli fit --config conf/lightning/graded.yaml``."""

from __future__ import annotations

import importlib.util

from sharcs_pl.config import RunConfig
from sharcs_pl.config.command_line import user_errors, wants_traceback
from sharcs_pl.config.errors import explain, is_user_error
from sharcs_pl.core.errors import Diverged
from sharcs_pl.pipeline.sections import typed


def main() -> None:
    """Run the command. The exit code is 2 for a mistake, 1 for a run that diverged, 128 + signal for a signal."""
    with user_errors(RunConfig):
        check_extra()
        try:
            from sharcs_pl.pipeline.lightning_cli import SharcsCLI

            SharcsCLI()
        except Exception as error:
            if wants_traceback() or not (is_user_error(error) or isinstance(error, Diverged)):
                raise
            kind = ValueError if is_user_error(error) else Diverged
            raise kind(typed(explain(error, RunConfig))) from error


def check_extra() -> None:
    """Raise ``ValueError`` unless the packages that Lightning reads command lines with are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("jsonargparse", "docstring_parser")):
        raise ValueError("this command needs a package that is not installed: pip install 'sharcs-pl[cli]'")


if __name__ == "__main__":
    main()
