"""The shared parts of commands: reading the overrides, reporting errors, and exit codes."""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf, open_dict

from sharcs_pl.config.compose import composed
from sharcs_pl.config.errors import explain, is_user_error
from sharcs_pl.config.help import describe
from sharcs_pl.config.overrides import quote_texts
from sharcs_pl.config.plain import from_plain
from sharcs_pl.core.errors import DataWarning, Diverged, Interrupted
from sharcs_pl.core.text import printable

BAD_INPUT = 2
FAILED = 1  # a run that had begun
INTERRUPTED = 130  # 128 + SIGINT, as shells count
_FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: at 1 it raises its errors
_RAISE_ONLY = "SHARCS_ONE_LINE_ERRORS"  # the switch was set here, not by the user


@contextmanager
def user_errors(schema: type) -> Iterator[None]:
    """Turn errors into exit codes: a user error into one line on stderr and 2, a diverged run into one line and 1, and
    a signal into 128 + signal.

    ``HYDRA_FULL_ERROR=1`` in the environment shows the traceback instead. ``schema``: the dataclass of all keys.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Interrupted as stopped:
        raise SystemExit(stopped.code) from None
    except Exception as error:
        if wants_traceback() or not (is_user_error(error) or isinstance(error, Diverged)):
            raise
        print(f"error: {explain(error, schema)}", file=sys.stderr)
        raise SystemExit(BAD_INPUT if is_user_error(error) else FAILED) from None


def wants_traceback() -> bool:
    """Return True if the user set Hydra's switch for full tracebacks."""
    return os.environ.get(_FULL_ERROR) == "1" and _RAISE_ONLY not in os.environ


@contextmanager
def hydra_raises() -> Iterator[None]:
    """Make Hydra raise its errors instead of printing them and exiting with code 1."""
    added = {} if os.environ.get(_FULL_ERROR) == "1" else {_FULL_ERROR: "1", _RAISE_ONLY: "1"}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def show_warning(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
    """Print a `DataWarning` as one line, and any other warning in Python's format."""
    if issubclass(category, DataWarning):
        print(f"warning: {printable(str(message))}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, place[0], place[1]), end="", file=sys.stderr)


def run_command(name: str, schema: type, run: Callable[[Any], object]) -> None:
    """Call ``run`` with the config that the command line gives; a mistake is one line on stderr and exit code 2."""
    with user_errors(schema):
        run(read_command(name, schema, sys.argv[1:]))


def read_command(name: str, schema: type, arguments: Sequence[str]) -> Any:
    """Return the checked config of a command that is not a Hydra application, from its overrides.

    ``--help`` prints its keys and ``--cfg job`` the composed config. Both exit with code 0.
    """
    flags = [text for text in arguments if text.startswith("-")]
    if flags in (["--help"], ["-h"]):
        print(command_help(name, schema))
        raise SystemExit(0)
    show = list(arguments[-2:]) == ["--cfg", "job"] or list(arguments[:2]) == ["--cfg", "job"]
    if flags and not (show and flags == ["--cfg"]):
        raise ValueError(f"{flags[0]} is unknown; give key=value, --help or --cfg job")
    overrides = [text for text in arguments if text not in ("--cfg", "job")] if show else list(arguments)
    cfg = composed(name, schema, quote_texts(overrides, schema))
    with open_dict(cfg):
        del cfg["hydra"]
    if show:
        print(OmegaConf.to_yaml(cfg))
        raise SystemExit(0)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return from_plain(schema, plain)


def command_help(name: str, schema: type) -> str:
    """Return the usage line and every key with its help text."""
    rows = list(describe(schema))
    width = max(len(key) for key, _, _ in rows)
    lines = [f"{key:<{width}}  {text}" for key, _, text in rows]
    wrapped = [textwrap.fill(line, 100, subsequent_indent=" " * (width + 2)) for line in lines]
    summary = (schema.__doc__ or "").splitlines()[0]
    return "\n".join([f"usage: sharcs {name} key=value …", "", summary, "", *wrapped])
