"""JSON files without NaN or infinity. Loads no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sharcs_pl.core.files import write_text


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ``ValueError`` naming the file when it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def write_json(path: Path, value: Any) -> None:
    """Write plain types as a JSON file, atomically. Raise ``ValueError`` naming a number that JSON cannot hold, and
    write nothing."""
    fault = not_finite(value)
    if fault is not None:
        raise ValueError(f"{path}: {fault} is not a finite number, which JSON cannot hold; nothing is written")
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def not_finite(value: Any, name: str = "the value") -> str | None:
    """Return the path of a float that is NaN or infinite, such as ``rungs.0.value``, or None if all are finite."""
    if isinstance(value, float):
        return None if math.isfinite(value) else name
    if isinstance(value, dict):
        rows = value.items()
    elif isinstance(value, list | tuple):
        rows = enumerate(value)
    else:
        return None
    prefix = "" if name == "the value" else f"{name}."
    return next((found for key, inner in rows if (found := not_finite(inner, f"{prefix}{key}")) is not None), None)


def without_nan(value: Any) -> Any:
    """Return a copy of plain types with None in place of every float that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    return [without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value
