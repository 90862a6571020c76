"""Error messages for user errors, one line each, which name the key and the values that fit."""

from __future__ import annotations

import re
from difflib import get_close_matches

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sharcs_pl.config.help import describe, takes_list
from sharcs_pl.config.renamed import earlier_choices
from sharcs_pl.core.text import one_line

LONGEST_MESSAGE = 400  # characters: a message fits a terminal
USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)


def is_user_error(error: Exception) -> bool:
    """Return True for a user error. Classes of Lightning and safetensors are compared by name, without an import."""
    names = {"MisconfigurationException", "SafetensorError"}
    return isinstance(error, USER_ERRORS) or type(error).__name__ in names


def explain(error: Exception, schema: type) -> str:
    """Return the error message in one line that fits a terminal."""
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
    """Return the text as one line of at most ``LONGEST_MESSAGE`` characters, with the middle left out if needed."""
    line = one_line(text)
    if len(line) <= LONGEST_MESSAGE:
        return line
    half = LONGEST_MESSAGE // 2 - 2
    return f"{line[:half]} … {line[-half:]}"


def suggest(key: str, schema: type) -> str:
    """Return ``; did you mean …?`` with the key closest to an unknown one, or the keys of its group."""
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
    """Return advice for an override that Hydra cannot parse."""
    key, _, value = override.partition("=")
    if re.fullmatch(r"[\w./~-]+", override) and "run" in {known for known, _, _ in describe(schema)}:
        return f"did you mean run={override}?"
    if takes_list(schema, key) and value.endswith(","):
        return f"a list is one word in brackets: '{key}=[{value}…]'"
    return "quote it for the shell: 'width.bounds=[[0.8,1],[0,0.8]]'"


def _several(override: str, schema: type) -> str:
    """Return advice for an override with commas, which Hydra takes for a sweep."""
    key, _, value = override.partition("=")
    if takes_list(schema, key.lstrip("+")):
        return f"{override} is no list; did you mean '{key}=[{value}]'?"
    sweep = "; -m makes a sweep of several" if "ckpt_path" in {known for known, _, _ in describe(schema)} else ""
    return f"{override}: one value is expected{sweep}"


def _unknown_choice(missing: str, options: list[str]) -> str:
    group, _, name = missing.rpartition("/")
    options = [option for option in options if option not in earlier_choices().get(group, {})]
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
