"""What is read of a file: which columns, and how its cells are told apart; and what is said of columns that lack."""

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
    """What to read of a file: `columns` in this order, then `optional` where the file has it.

    `quoting`: of CSV and TSV files, `standard` or `none`. `delimiter`: the character between their cells, None finds it
    in the header; `usual_delimiter`: one more that may be found there. `encoding`: of text files without a byte-order
    mark, None for UTF-8. `prefix`: of the keys that say so, as messages name them.
    """

    columns: tuple[str, ...]
    optional: str | None = None
    quoting: str = "standard"
    delimiter: str | None = None
    encoding: str | None = None
    usual_delimiter: str | None = None
    prefix: str = "task."

    def present(self, names: Container[str]) -> tuple[str, ...]:
        """The columns to read of a file with these names."""
        if self.optional is None or self.optional not in names:
            return self.columns
        return (*self.columns, self.optional)

    def key(self, name: str) -> str:
        """How a key is called on the command line that asks."""
        return f"{self.prefix}{name}"


def check_columns(where: str, names: Sequence[str], wanted: Iterable[str], hint: str = "") -> None:
    """`ValueError` unless every name is there once, with the names that are there and the closest one; `hint` is added
    where one is missing."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one column is called {shown(twice[0])}")
    missing = columns_fault(names, wanted)
    if missing:
        raise ValueError(f"{where}: {missing}{hint}")


def columns_fault(names: Sequence[str], wanted: Iterable[str]) -> str | None:
    """The first name that is not there, the closest one and those that are; None where all are there."""
    for column in wanted:
        if column not in names:
            return f"no column {shown(column)}{_closest(column, names)} among {listed(names)}"
    return None


def _closest(column: str, names: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(column.casefold(), folded, n=1)
    return f" (did you mean {shown(folded[found[0]])}?)" if found else ""
