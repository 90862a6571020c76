"""Short forms of values and names on one line, for messages."""

from __future__ import annotations

from collections.abc import Iterable


def shown(value: object, limit: int = 60) -> str:
    """Return a value as one short line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 2]}…{text[-1]}"


def listed(names: Iterable[str], limit: int = 120) -> str:
    """Return as many names as fit, and the number of further ones."""
    parts = [short_name(name) for name in names]
    if not parts:
        return "none"
    count, length = 1, len(parts[0])
    while count < len(parts) and length + 2 + len(parts[count]) <= limit:
        length += 2 + len(parts[count])
        count += 1
    rest = len(parts) - count
    return ", ".join(parts[:count]) + (f", … and {rest:,} more" if rest else "")


def short_name(name: str, limit: int = 40) -> str:
    """Return a name without line breaks, shortened."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
