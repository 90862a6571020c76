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
from sharcs_pl.data.several import marked, names_in


@dataclass(frozen=True)
class LabelCells:
    """How the label of a row is read from its cells: text of one column, or with `several` any number of labels. These
    are a list in one column, or a text with a `separator`, or with `marks` the names of the columns that hold a 1."""

    columns: tuple[str, ...]
    several: bool = False
    separator: str | None = None

    @property
    def marks(self) -> bool:
        """True if there is a column for each label."""
        return len(self.columns) > 1

    @property
    def listed(self) -> bool:
        """True if one column lists the labels of a text."""
        return self.several and not self.marks

    def without(self, values: Sequence[Any]) -> bool:
        """Return True if cells without a value say that a text has no label: an empty text where names are listed, but
        not null."""
        return self.listed and isinstance(values[0], str)

    def read(self, place: str, values: Sequence[Any]) -> Any:
        """Return the label as text, or several as a tuple of texts. Raise `ValueError` with the place."""
        if self.marks:
            return marked(place, values, self.columns)
        if self.several:
            return tuple(label_text(name, place) for name in names_in(place, values[0], self.separator))
        return label_text(values[0], place)

    def stripped(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the cells of a format that holds nothing but text without spaces around them."""
        return tuple(value.strip() for value in values)


@dataclass(frozen=True, eq=False)
class RawSplit:
    """A split with the place, the texts and the label of each row as text. `labels` is None without labels, and holds
    tuples where a text has several.

    `name` is the file. `classes` are the names of the classes if the data itself declares them.
    """

    name: str
    places: list[str]
    texts: list[tuple[str, ...]]
    labels: list[Any] | None
    classes: tuple[str, ...] | None = None


_LABEL = LabelCells(("label",))


def read_file(path: Path, request: Request, cells: LabelCells = _LABEL) -> RawSplit:
    """Read a split from a file. The last columns of the request, which may be the optional ones, are those of `cells`.

    If every row leaves an optional label empty, the split has no labels. Raise `ValueError` with file and line, also if
    only some rows leave it empty. Spaces around a label of a CSV, TSV or Excel file are removed.
    """
    width = _texts(request, cells)
    rows = read_rows(path, request)
    if format_of(path)[0] in ALL_TEXT:
        rows = ((place, (*values[:width], *cells.stripped(values[width:]))) for place, values in rows)
    return _collect(path.name, rows, request.columns[:width], cells, optional=bool(request.optional))


def read_hub(
    repository: str, config: str | None, split: str, request: Request, labels: LabelCells = _LABEL
) -> RawSplit:
    """Read a split from the hub or a local dataset folder. Ids of declared classes become their names."""
    rows = load_hub(config, split, repository)
    columns = request.present(rows.column_names)
    check_columns(f"task.hub={repository} ({split})", rows.column_names, columns)
    width = _texts(request, labels)
    cells: list[list[Any]] = [rows.select_columns([column])[:][column] for column in columns]
    classes = _declared(rows.features[columns[-1]], labels) if len(columns) > width else None
    if classes and labels.several:
        cells[-1] = [_names(ids, classes) for ids in cells[-1]]
    elif classes:
        cells[-1] = [_name(label, classes) for label in cells[-1]]
    name = f"{Path(repository).name} {split}"
    places = (f"{name}, row {row}" for row in range(1, len(rows) + 1))
    found = zip(places, zip(*cells, strict=True), strict=True)
    return _collect(name, found, request.columns[:width], labels, classes, bool(request.optional))


def _texts(request: Request, labels: LabelCells) -> int:
    """Return how many of the columns are texts."""
    return len(request.columns) - (0 if request.optional else len(labels.columns))


def _declared(feature: Any, labels: LabelCells) -> tuple[str, ...] | None:
    """Return the names of the classes that a column of a dataset declares, None for any other column."""
    if labels.marks:
        return None
    inner = getattr(feature, "feature", None) if labels.several else feature
    return tuple(getattr(inner, "names", None) or ()) or None


def _name(label: int | None, classes: Sequence[str]) -> str | None:
    """Return the name of a class id. The hub hides the labels of a test split as -1."""
    return classes[label] if label is not None and label >= 0 else None


def _names(ids: Sequence[int | None] | None, classes: Sequence[str]) -> list[str | None] | None:
    """Return the names of the class ids of a text, None if they are hidden."""
    if ids is None or any(label is not None and label < 0 for label in ids):
        return None
    return [_name(label, classes) for label in ids]


def _collect(
    name: str,
    rows: Iterable[Row],
    columns: Sequence[str],
    cells: LabelCells,
    classes: tuple[str, ...] | None = None,
    optional: bool = False,
) -> RawSplit:
    places: list[str] = []
    texts: list[tuple[str, ...]] = []
    labels: list[Any] = []
    empty: list[str] = []  # places of rows without a value
    unknown: list[str] = []  # those of them that do not mean a text without labels
    width = len(columns)
    for place, values in rows:
        places.append(place)
        texts.append(_checked(place, values[:width], columns))
        if len(values) == width:
            continue
        if not optional or not all(map(is_missing, values[width:])):
            labels.append(cells.read(place, values[width:]))
            continue
        empty.append(place)
        if cells.without(values[width:]):
            labels.append(())
        else:
            unknown.append(place)
    if len(empty) == len(places):
        labels = []
    if labels and unknown:
        raise ValueError(f"{unknown[0]}: no label, and other rows have one; fill it in, or leave the column out")
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
