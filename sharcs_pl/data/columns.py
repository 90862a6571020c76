"""Requests for columns of a file, and errors for missing columns."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sharcs_pl.data.shown import listed, shown

Row = tuple[str, tuple[Any, ...]]
"""The place ('tickets.csv, line 12') and the values of a row."""


@dataclass(frozen=True)
class Request:
    """A request for the `columns` of a file in this order, followed by the `optional` ones if the file has any of them.

    `quoting`: `standard` or `none`, for CSV and TSV files. `delimiter`: the character between their cells, None to find
    it in the header. `usual_delimiter`: another candidate for the header. `encoding`: the encoding of text files
    without a byte-order mark, None for UTF-8. `prefix`: the prefix of the keys of these options in messages.
    `lists`: columns whose values may be lists.
    """

    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    quoting: str = "standard"
    delimiter: str | None = None
    encoding: str | None = None
    usual_delimiter: str | None = None
    prefix: str = "task."
    lists: tuple[str, ...] = ()

    def present(self, names: Container[str]) -> tuple[str, ...]:
        """Return the columns to read from a file with these column names."""
        if not any(name in names for name in self.optional):
            return self.columns
        return (*self.columns, *self.optional)

    def key(self, name: str) -> str:
        """Return the full name of a key on the command line."""
        return f"{self.prefix}{name}"


def check_columns(where: str, names: Sequence[str], wanted: Iterable[str], hint: str = "") -> None:
    """Raise `ValueError` unless the names are unique and hold all wanted ones. The message lists the names and the
    closest one, and ends with `hint` if one is missing."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one column is called {shown(twice[0])}")
    missing = columns_fault(names, wanted)
    if missing:
        raise ValueError(f"{where}: {missing}{hint}")


def columns_fault(names: Sequence[str], wanted: Iterable[str]) -> str | None:
    """Return a message with the first missing name, the closest one and all names, or None if none is missing."""
    for column in wanted:
        if column not in names:
            return f"no column {shown(column)}{_closest(column, names)} among {listed(names)}"
    return None


def _closest(column: str, names: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(column.casefold(), folded, n=1)
    return f" (did you mean {shown(folded[found[0]])}?)" if found else ""
