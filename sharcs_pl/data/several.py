"""Labels of which a text has any number: names in one column, or a column of 0 and 1 for each.

A text without a label has an empty list, an empty cell, or 0 in every column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from sharcs_pl.data.shown import listed, shown

Names = tuple[str, ...]
"""The labels of a text."""

_YES = ("1", "1.0", "true", "yes")
_NO = ("0", "0.0", "false", "no")


def names_in(place: str, value: Any, separator: str | None) -> list[Any]:
    """Return the names in a cell without spaces around them: those of a list, or of a text between separators. Raise
    `ValueError` with the place of a cell that holds neither."""
    if isinstance(value, list | tuple):
        return [name.strip() if isinstance(name, str) else name for name in value]
    if isinstance(value, str):
        if separator is not None:
            return [name for name in map(str.strip, value.split(separator)) if name]
        if not value.strip():
            return []
        raise ValueError(f"{place}: label {shown(value)} is one text; give task.label_separator, or a list of names")
    fault = "no label" if value is None else f"label {shown(value)}"
    raise ValueError(f"{place}: {fault}, where a list of names is expected; [] has none")


def marked(place: str, values: Sequence[Any], columns: Sequence[str]) -> Names:
    """Return the columns of a row that hold a yes. Raise `ValueError` with the place of a value that is neither 0 nor
    1."""
    found = []
    for column, value in zip(columns, values, strict=True):
        text = str(value).strip().lower()
        if text not in (*_YES, *_NO):
            what = "empty" if text in ("", "none", "nan") else shown(value)
            raise ValueError(f"{place}: {shown(column)} is {what}; a column of a label holds 0 or 1")
        if text in _YES:
            found.append(column)
    return tuple(found)


def check_names(counts: Counter[str], rows: int, name: str, column: str, most: int) -> None:
    """Raise `ValueError` for fewer than two counted names, or for so many that the column is hardly one of labels: more
    than `most` and than half of the rows."""
    if len(counts) < 2:
        found = f"is only {listed(counts)}" if counts else "is none"
        raise ValueError(f"{name}: in {shown(column)} there {found}; two labels or more are needed")
    if len(counts) > max(most, rows / 2):
        raise ValueError(
            f"task.label={column}: {len(counts):,} labels in {rows:,} rows of {name}; are task.label and "
            "task.label_separator right? If they are, list the labels in task.labels"
        )


def label_matrix(places: Sequence[str], rows: Sequence[Names], ids: dict[str, int], num_labels: int) -> np.ndarray:
    """Return 1 where a text has a label, else 0, float32 [S, C]. Raise `ValueError` with the place of a name that `ids`
    lacks."""
    found = np.zeros((len(rows), num_labels), np.float32)
    for row, (place, names) in enumerate(zip(places, rows, strict=True)):
        for name in names:
            if name not in ids:
                raise ValueError(f"{place}: label {shown(name)} is none of the labels {listed(ids)}")
            found[row, ids[name]] = 1
    return found


def label_counts(labels: np.ndarray, num_labels: int) -> list[int]:
    """Return how many samples have each class or label, from ids int [S] or a matrix [S, C]. Unknown labels are not
    counted."""
    if labels.ndim == 2:
        return (labels > 0).sum(0).tolist()
    return np.bincount(labels[labels >= 0], minlength=num_labels).tolist()
