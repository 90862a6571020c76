"""What a mistake on the command line is told: one line that names the key and what would fit, and exit code 2."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sharcs_pl.config import conf_dir
from sharcs_pl.config.help import describe, takes_list
from sharcs_pl.config.overrides import quote_texts
from sharcs_pl.config.plain import from_plain
from sharcs_pl.core.finite import Diverged
from sharcs_pl.core.text import one_line, printable
from sharcs_pl.data.spec import DataWarning

BAD_INPUT = 2
FAILED = 1  # a run that had begun
INTERRUPTED = 130  # 128 + SIGINT, as shells count
LONGEST_MESSAGE = 400  # characters: a message fits a terminal
USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
_FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: at 1 it raises its errors
_RAISE_ONLY = "SHARCS_ONE_LINE_ERRORS"  # the switch was set here, not by the user


@contextmanager
def user_errors(schema: type) -> Iterator[None]:
    """Turn what the user can mend into one line on stderr and exit code 2, a diverged run into one and exit code 1,
    Ctrl-C into exit code 130.

    ``HYDRA_FULL_ERROR=1`` in the environment shows the traceback instead. ``schema``: the dataclass of all keys.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if wants_traceback() or not (is_user_error(error) or isinstance(error, Diverged)):
            raise
        print(f"error: {explain(error, schema)}", file=sys.stderr)
        raise SystemExit(BAD_INPUT if is_user_error(error) else FAILED) from None


def wants_traceback() -> bool:
    """Whether the user set Hydra's switch for it."""
    return os.environ.get(_FULL_ERROR) == "1" and _RAISE_ONLY not in os.environ


@contextmanager
def hydra_raises() -> Iterator[None]:
    """Have Hydra raise its errors instead of printing them and leaving with exit code 1."""
    added = {} if os.environ.get(_FULL_ERROR) == "1" else {_FULL_ERROR: "1", _RAISE_ONLY: "1"}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def show_warning(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
    """Our own warnings in our words; those of others as Python shows them."""
    if issubclass(category, DataWarning):
        print(f"warning: {printable(str(message))}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, place[0], place[1]), end="", file=sys.stderr)


def is_user_error(error: Exception) -> bool:
    """Whether the user can mend it; Lightning's and safetensors' own classes are told by name, not imported."""
    names = {"MisconfigurationException", "SafetensorError"}
    return isinstance(error, USER_ERRORS) or type(error).__name__ in names


def explain(error: Exception, schema: type) -> str:
    """The error in one line that fits a terminal."""
    if isinstance(error, OverrideParseException):
        text = f"cannot read {error.override!r} as key=value; {_unreadable(str(error.override), schema)}"
    elif isinstance(error, MissingConfigException) and error.options:
        text = _unknown_choice(str(error.missing_cfg_file), list(error.options))
    elif isinstance(error, ConfigCompositionException):
        text = _composition(error, schema)
    elif isinstance(error, MissingMandatoryValue):
        key = _field(str(error), "full_key") or str(error).rsplit(" ", 1)[-1]
        text = f"{key} is missing; add {key}=…"
    elif isinstance(error, OmegaConfBaseException):
        text = _bad_key_or_value(error, schema)
    elif isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error)
    return shorten(text)


def shorten(text: str) -> str:
    """One line of at most ``LONGEST_MESSAGE`` characters, its middle left out."""
    line = one_line(text)
    if len(line) <= LONGEST_MESSAGE:
        return line
    half = LONGEST_MESSAGE // 2 - 2
    return f"{line[:half]} … {line[-half:]}"


def suggest(key: str, schema: type) -> str:
    """``; did you mean …?`` for a key that is almost one, or the keys beside it."""
    known = [key for key, _, _ in describe(schema)]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    groups = [] if "." in key else sorted({name.split(".")[0] for name in known})
    close = get_close_matches(key, [*known, *groups], 1, 0.75) or same_leaf[:1]
    if close:
        return f"; did you mean {close[0]}?"
    group = key.rsplit(".", 1)[0] + "."
    beside = [name.removeprefix(group) for name in known if name.startswith(group)]
    return f"; {group[:-1]} has {', '.join(beside)}" if beside else "; --cfg job prints all keys"


def _unreadable(override: str, schema: type) -> str:
    """What to type instead of an override that Hydra cannot parse."""
    key, _, value = override.partition("=")
    if re.fullmatch(r"[\w./~-]+", override) and "run" in {known for known, _, _ in describe(schema)}:
        return f"did you mean run={override}?"
    if takes_list(schema, key) and value.endswith(","):
        return f"a list is one word in brackets: '{key}=[{value}…]'"
    return "quote it for the shell: 'width.bounds=[[0.8,1],[0,0.8]]'"


def _several(override: str, schema: type) -> str:
    """What to type instead of values with commas between them, which Hydra takes for a sweep."""
    key, _, value = override.partition("=")
    if takes_list(schema, key.lstrip("+")):
        return f"{override} is no list; did you mean '{key}=[{value}]'?"
    sweep = "; -m makes a sweep of several" if "ckpt_path" in {known for known, _, _ in describe(schema)} else ""
    return f"{override}: one value is expected{sweep}"


def _unknown_choice(missing: str, options: list[str]) -> str:
    group, _, name = missing.rpartition("/")
    close = get_close_matches(name, options, 1)
    hint = f"did you mean {group}={close[0]}? It is" if close else "choose"
    return f"{group}={name} is unknown; {hint} one of: {', '.join(sorted(options))}"


def _composition(error: ConfigCompositionException, schema: type) -> str:
    message, cause = str(error), error.__cause__
    several = re.search(r"Ambiguous value for argument '(.*)'$", message.split("\n1.")[0], re.DOTALL)
    if several:
        return _several(several.group(1), schema)
    found = re.search(r"Could not (?:override|append to|delete)[^']*'([^']+)'", message)
    if isinstance(cause, OmegaConfBaseException):
        override = re.search(r"Error merging override (.+)", message)
        return _bad_key_or_value(cause, schema, override.group(1) if override else None)
    if found:
        key = found.group(1).split("=")[0]
        return f"there is no key {key}{suggest(key, schema)}"
    return message


def _bad_key_or_value(error: OmegaConfBaseException, schema: type, override: str | None = None) -> str:
    message = str(error)
    key = _field(message, "full_key") or ""
    wrong = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", message, re.DOTALL)
    if wrong:
        name = override.split("=")[0].lstrip("+") if override else key
        return f"{name}={wrong.group(1)} is of a wrong type; it must be {TYPES.get(wrong.group(2), wrong.group(2))}"
    if override and "is not a ListConfig" in message:
        name, _, value = override.partition("=")
        return f"{override} is no list; did you mean '{name}=[{value}]'?"
    if re.search(r"not in struct|Key '.*' not in", message):
        return f"there is no key {key}{suggest(key, schema)}"
    first = message.splitlines()[0]
    return f"{override or key}: {first}" if override or key else first


TYPES = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "a text"}


def _field(message: str, name: str) -> str | None:
    found = re.search(rf"{name}: (\S+)", message)
    return found.group(1) if found else None


def read_command(name: str, schema: type, arguments: Sequence[str]) -> Any:
    """The checked config of a command that is no Hydra application, from its overrides.

    ``--help`` prints its keys, ``--cfg job`` the composed config; both leave with exit code 0.
    """
    flags = [text for text in arguments if text.startswith("-")]
    if flags in (["--help"], ["-h"]):
        print(command_help(name, schema))
        raise SystemExit(0)
    show = list(arguments[-2:]) == ["--cfg", "job"] or list(arguments[:2]) == ["--cfg", "job"]
    if flags and not (show and flags == ["--cfg"]):
        raise ValueError(f"{flags[0]} is unknown; give key=value, --help or --cfg job")
    overrides = [text for text in arguments if text not in ("--cfg", "job")] if show else list(arguments)
    overrides = quote_texts(overrides, schema)
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(name, overrides=overrides)
    if show:
        print(OmegaConf.to_yaml(cfg))
        raise SystemExit(0)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return from_plain(schema, plain)


def command_help(name: str, schema: type) -> str:
    """Usage, and every key with its help text."""
    rows = list(describe(schema))
    width = max(len(key) for key, _, _ in rows)
    lines = [f"{key:<{width}}  {text}" for key, _, text in rows]
    wrapped = [textwrap.fill(line, 100, subsequent_indent=" " * (width + 2)) for line in lines]
    summary = (schema.__doc__ or "").splitlines()[0]
    return "\n".join([f"usage: sharcs {name} key=value …", "", summary, "", *wrapped])
