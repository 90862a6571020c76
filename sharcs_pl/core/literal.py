"""Texts escaped so that OmegaConf takes them literally.

OmegaConf resolves every ``${…}`` in a text. This is wanted once, for the user's own config, when Hydra composes it.
Later texts and texts from files stay literal, so that the author of a file cannot read the environment of its reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_INTERPOLATION = re.compile(r"(\\*)\$\{")


def literal(value: Any) -> Any:
    """Return a copy of a plain value with every text escaped, so that OmegaConf returns it unchanged."""
    if isinstance(value, str):
        return _INTERPOLATION.sub(lambda found: rf"{2 * found.group(1)}\${{", value)
    if isinstance(value, Mapping):
        return {key: literal(entry) for key, entry in value.items()}
    return [literal(entry) for entry in value] if isinstance(value, list | tuple) else value
