"""A split of the user's own data with texts, labels as text, and the place of each row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sharcs_pl.data.files import ALL_TEXT, Request, Row, check_columns, format_of, read_rows, shown, text_fault
from sharcs_pl.data.hub import load_hub


@dataclass(frozen=True, eq=False)
class RawSplit:
    """A split with the place, the texts and the label of each row as text. `labels` is None without labels.

    `name` is the file. `classes` are the names of the classes if the data itself declares them.
    """

    name: str
    places: list[str]
    texts: list[tuple[str, ...]]
    labels: list[str] | None
    classes: tuple[str, ...] | None = None


def read_file(path: Path, request: Request) -> RawSplit:
    """Read a split from a file. The last column of the request, which may be the optional one, is the label.

    If every row leaves an optional label empty, the split has no labels. Raise `ValueError` with file and line, also if
    only some rows leave it empty. Spaces around a label of a CSV, TSV or Excel file are removed.
    """
    width = len(request.columns) - (request.optional is None)
    rows = read_rows(path, request)
    if format_of(path)[0] in ALL_TEXT:
        rows = ((place, (*values[:width], *map(str.strip, values[width:]))) for place, values in rows)
    return _collect(path.name, rows, request.columns[:width], optional=request.optional is not None)


def read_hub(repository: str, config: str | None, split: str, request: Request) -> RawSplit:
    """Read a split from the hub or a local dataset folder. Ids of declared classes become their names."""
    rows = load_hub(config, split, repository)
    columns = request.present(rows.column_names)
    check_columns(f"task.hub={repository} ({split})", rows.column_names, columns)
    width = len(request.columns) - (request.optional is None)
    cells: list[list[Any]] = [rows.select_columns([column])[:][column] for column in columns]
    classes = None
    if len(columns) > width:
        classes = getattr(rows.features[columns[-1]], "names", None)
    if classes:
        # The hub hides the labels of a test split as -1.
        cells[-1] = [classes[label] if label is not None and label >= 0 else None for label in cells[-1]]
    name = f"{Path(repository).name} {split}"
    places = (f"{name}, row {row}" for row in range(1, len(rows) + 1))
    found = zip(places, zip(*cells, strict=True), strict=True)
    declared = tuple(classes) if classes else None
    return _collect(name, found, request.columns[:width], declared, request.optional is not None)


def _collect(
    name: str,
    rows: Iterable[Row],
    columns: Sequence[str],
    classes: tuple[str, ...] | None = None,
    optional: bool = False,
) -> RawSplit:
    places: list[str] = []
    texts: list[tuple[str, ...]] = []
    labels: list[str] = []
    empty: list[str] = []  # places
    width = len(columns)
    for place, values in rows:
        places.append(place)
        texts.append(_checked(place, values[:width], columns))
        for label in values[width:]:
            if optional and is_missing(label):
                empty.append(place)
            else:
                labels.append(label_text(label, place))
    if labels and empty:
        raise ValueError(f"{empty[0]}: no label, and other rows have one; fill it in, or leave the column out")
    return RawSplit(name, places, texts, labels or None, classes)


def _checked(place: str, texts: tuple[Any, ...], columns: Sequence[str]) -> tuple[str, ...]:
    fault = text_fault(texts, columns)
    if fault:
        raise ValueError(f"{place}: {fault}")
    return texts


def label_text(value: Any, place: str) -> str:
    """Return a label as text, equal for every format: `true`, `4`, `4.0`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, Decimal) and value.is_finite()):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError(
        f"{place}: {'no label' if is_missing(value) else f'label {shown(value)} is neither text nor a number'}"
    )


def is_missing(value: Any) -> bool:
    """Return True if a cell is empty, null, NaN or infinite."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float | Decimal):
        return not math.isfinite(value)
    return value is None
