"""The location of the yamls, and the checks that several groups share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sharcs_pl.core.text_files import delimiter_of, encoding_of


def conf_dir() -> Path:
    """Return the yaml folder, ``conf/`` beside the package in a checkout and inside the package in a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def one_of(key: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Raise ``ValueError`` naming ``key`` unless ``value`` is unset or one of ``choices``."""
    if value is not None and value not in choices:
        raise ValueError(f"{key}={value} is unknown; choose one of: {', '.join(choices)}")


AUTO = "auto"
"""The value of a key that follows from the encoder and the data; `config.auto` says how."""


def number(key: str, value: Any, low: float, high: float = math.inf, whole: bool = False) -> None:
    """Raise ``ValueError`` naming ``key`` unless ``value`` is unset, ``auto`` or a number, ``whole`` or not, from
    ``low`` to ``high``."""
    if value is None or value == AUTO:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{key}={value} must be a {'whole ' if whole else ''}number, or {AUTO}")
    in_range(key, value, low, high)


def check_serving(backend: str | None, precision: str | None, accelerator: str | None) -> None:
    """Raise ``ValueError`` naming the key at fault of a runtime that answers."""
    one_of("backend", backend, ("torch", "openvino", "onnxruntime"))
    one_of("precision", precision, ("float32", "bfloat16", "int8"))
    if backend not in (None, "torch") and accelerator not in (None, "cpu", "auto"):
        raise ValueError(f"accelerator={accelerator}: backend={backend} runs on the CPU; leave it out")


def in_range(key: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Raise ``ValueError`` naming ``key`` unless ``value`` is unset or ``low <= value <= high``."""
    if value is not None and (not low <= value <= high or math.isinf(value)):
        limit = f"at least {low:g}" if high == math.inf else f"between {low:.12g} and {high:.12g}"
        raise ValueError(f"{key}={value} is out of range; it must be {limit}")


def check_text_files(prefix: str, config: Any) -> None:
    """Check and normalise ``quoting``, ``delimiter`` (to one character) and ``encoding`` (to Python's name of it).
    Raise ``ValueError`` naming the key of an unusable value."""
    one_of(f"{prefix}quoting", config.quoting, ("standard", "none"))
    if config.delimiter is not None:
        config.delimiter = delimiter_of(f"{prefix}delimiter", config.delimiter)
    if config.encoding is not None:
        config.encoding = encoding_of(f"{prefix}encoding", config.encoding)
