"""Texts that OmegaConf takes as they are.

It fills in ``${…}`` wherever a text holds it. Of what the user wrote for Hydra that is wanted, and happens once, when
Hydra composes. After that, and in whatever was found in a file, a dollar is a dollar: the environment of whoever reads
a file is not for its author to ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_INTERPOLATION = re.compile(r"(\\*)\$\{")


def literal(value: Any) -> Any:
    """The same plain value with every text escaped, so that OmegaConf gives it back as it is."""
    if isinstance(value, str):
        return _INTERPOLATION.sub(lambda found: rf"{2 * found.group(1)}\${{", value)
    if isinstance(value, Mapping):
        return {key: literal(entry) for key, entry in value.items()}
    return [literal(entry) for entry in value] if isinstance(value, list | tuple) else value
