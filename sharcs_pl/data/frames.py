"""Rows in memory (lists of dicts, pandas, polars, Arrow, ``datasets``) as parquet files, which every command reads.

A file is named after its contents, so that the same rows give the same file and no other rows replace it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sharcs_pl.core.files import atomic_file
from sharcs_pl.data.columns import Request, check_columns
from sharcs_pl.data.shown import shown

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class ArrowRows(Protocol):
    """A table that Arrow can read: a DataFrame of pandas or polars, a table of pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


if TYPE_CHECKING:
    Rows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | ArrowRows | Dataset
_EXPECTED = "rows: a DataFrame of pandas or polars, a datasets.Dataset, or a list of dicts"


@dataclass(frozen=True)
class Frame:
    """The requested columns of rows in memory. `classes`: the names of the classes where the label declares them."""

    name: str
    table: pa.Table
    classes: tuple[str, ...] | None = None

    @property
    def file(self) -> str:
        """The name of its file."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write_table(self.table)
        return f"{self.name}-{hashlib.sha256(sink.getvalue()).hexdigest()[:12]}.parquet"

    def write(self, folder: Path) -> Path:
        """Write the file unless it is there; return its path."""
        import pyarrow.parquet as pq

        path = folder / self.file
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as part:
                pq.write_table(self.table, part)
        return path


def frame_of(name: str, rows: Rows, request: Request, label: str | None = None) -> Frame:
    """Return the requested columns; in ``label``, the column of the labels, ids of declared classes become their names.
    Raise ``ValueError``, naming the argument ``name``, for what holds no rows, lacks a column, or mixes types
    in one."""
    import pyarrow as pa

    names, columns = _columns_of(name, rows, label)
    check_columns(name, names, request.present(names))
    try:
        found, classes = columns(list(request.present(names)))
        table = pa.table({column: _plain(found[column]) for column in found.column_names}).combine_chunks()
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"{name}: a column mixes types: {shown(str(error), 160)}") from error
    if not len(table):
        raise ValueError(f"{name}: no rows")
    return Frame(name, table, classes)


def _columns_of(name: str, rows: Any, label: str | None) -> tuple[list[str], Any]:
    """Return the names of all columns, and a function that gives some of them with the classes that they declare."""
    if hasattr(rows, "select_columns") and hasattr(rows, "with_format"):  # datasets.Dataset
        return list(rows.column_names), lambda wanted: _dataset(rows, wanted, label)
    if hasattr(rows, "__arrow_c_stream__"):
        found = rows if hasattr(rows, "columns") else _as_table(name, rows)
        names = [str(column) for column in (found.columns if _is_frame(found) else found.column_names)]
        return names, lambda wanted: (_arrow(found, names, wanted), None)
    if isinstance(rows, Mapping) and all(_is_column(column) for column in rows.values()):
        return list(rows), lambda wanted: (_lists(name, {column: rows[column] for column in wanted}), None)
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _names(name, rows), lambda wanted: (_records(name, rows, wanted), None)
    raise ValueError(f"{name}={shown(rows)} is neither a file nor {_EXPECTED}")


def _is_frame(rows: Any) -> bool:
    """Return True for a DataFrame of pandas or polars, False for a table of Arrow."""
    import pyarrow as pa

    return not isinstance(rows, pa.Table | pa.RecordBatch)


def _is_column(value: Any) -> bool:
    """Return True for what has values in an order, such as a list or an array."""
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes | Mapping)


def _names(name: str, rows: Sequence[Any]) -> list[str]:
    odd = next((at for at, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if odd is not None:
        raise ValueError(f"{name}[{odd}] is {shown(rows[odd])}, no dict of columns; give {_EXPECTED}")
    if not rows:
        raise ValueError(f"{name}: no rows")
    return list(dict.fromkeys(column for row in rows for column in row))


def _records(name: str, rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> pa.Table:
    for at, row in enumerate(rows):
        missing = [column for column in wanted if column not in row]
        if missing:
            raise ValueError(f"{name}[{at}] has no {shown(missing[0])}, and other rows have it")
    return _table({column: [row[column] for row in rows] for column in wanted})


def _lists(name: str, columns: Mapping[str, Any]) -> pa.Table:
    values = {column: each.tolist() if hasattr(each, "tolist") else list(each) for column, each in columns.items()}
    if len({len(each) for each in values.values()}) > 1:
        lengths = ", ".join(f"{shown(column)} has {len(each):,}" for column, each in values.items())
        raise ValueError(f"{name}: every column needs as many values: {lengths}")
    return _table(values)


def _table(columns: dict[str, list[Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.table({column: pa.array(values, from_pandas=True) for column, values in columns.items()})


def _as_table(name: str, rows: Any) -> pa.Table:
    """Return a stream of Arrow as a table. Raise ``ValueError`` for a single column."""
    import pyarrow as pa

    try:
        return pa.table(rows)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"{name} is a {type(rows).__name__} without columns; give {_EXPECTED}") from error


def _arrow(rows: Any, names: list[str], wanted: list[str]) -> pa.Table:
    import pyarrow as pa

    if hasattr(rows, "set_axis"):  # pandas, whose names may be numbers
        rows = rows.set_axis(names, axis="columns")
    table = pa.table(rows[wanted] if _is_frame(rows) else rows.select(wanted))
    return table.select(wanted)  # without the index of pandas


def _dataset(rows: Dataset, wanted: list[str], label: str | None) -> tuple[pa.Table, tuple[str, ...] | None]:
    """Return columns of a dataset, and the classes that its label column declares. Their ids become their names."""
    import pyarrow as pa

    table: Any = rows.select_columns(wanted).with_format("arrow")[:]
    feature: Any = rows.features[label] if label in wanted else None
    inner = getattr(feature, "feature", feature)  # of a list
    classes = tuple(getattr(inner, "names", None) or ())
    if label is None or not classes:
        return table, None
    cells = [_named(ids, classes) for ids in table[label].to_pylist()]
    kind = pa.string() if inner is feature else pa.list_(pa.string())
    return table.set_column(table.column_names.index(label), label, pa.array(cells, kind)), classes


def _named(ids: Any, classes: Sequence[str]) -> Any:
    """Return the name of a class, or a list of names; None for a hidden one (-1)."""
    if isinstance(ids, list):
        return [classes[each] for each in ids]
    return None if ids is None or ids < 0 else classes[ids]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionaries and views, which not every reader of parquet knows."""
    import pyarrow as pa

    wanted = _plain_type(column.type)
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted)
    except pa.ArrowNotImplementedError:  # of the categories of polars
        return pa.chunked_array([column.to_pylist()], wanted)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _plain_type(kind.value_type)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind
