"""Batches of the libraries that call a function on many of them: tables of Arrow, frames of pandas, mappings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa


def column_names(batch: Any) -> list[str]:
    """Return the names of the columns of a batch."""
    if isinstance(batch, pa.Table):
        return batch.column_names
    return [str(name) for name in (batch.columns if hasattr(batch, "columns") else batch)]


def read_column(batch: Any, name: str) -> list[Any]:
    """Return the values of a column as Python's own. Raise `ValueError` where there is none of that name."""
    names = column_names(batch)
    if name not in names:
        raise ValueError(f"the batch has no column {name!r}; it has {', '.join(names)}")
    column = batch[_label(batch, name)]
    if hasattr(column, "to_pylist"):
        return column.to_pylist()
    if hasattr(column, "notna"):  # pandas has several kinds of null
        return column.astype(object).where(column.notna(), None).tolist()
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _label(batch: Any, name: str) -> Any:
    """Return what a batch itself calls a column: pandas takes more than texts."""
    return next(label for label in batch.columns if str(label) == name) if hasattr(batch, "assign") else name


def with_columns(batch: Any, added: Mapping[str, pa.Array], dropped: Iterable[str] = ()) -> Any:
    """Return a batch of the same kind with further columns, and without some. A column of the batch that has the name
    of a new one gets ``input_`` before it."""
    dropped = set(dropped)
    kept = [name for name in column_names(batch) if name not in dropped]
    names = _renamed(kept, added)
    if isinstance(batch, pa.Table):
        table = batch.select(kept).rename_columns(list(names.values()))
        for name, values in added.items():
            table = table.append_column(name, values)
        return table
    values = {name: _plain(column) for name, column in added.items()}
    if hasattr(batch, "assign"):
        return batch[[_label(batch, name) for name in kept]].set_axis(list(names.values()), axis=1).assign(**values)
    return {names[name]: batch[name] for name in kept} | values


def _renamed(kept: Iterable[str], added: Iterable[str]) -> dict[str, str]:
    taken, names = set(added), {}
    for name in kept:
        names[name] = name
        while names[name] in taken:
            names[name] = f"input_{names[name]}"
        taken.add(names[name])
    return names


def _plain(column: pa.Array) -> Any:
    """Return a column as NumPy's array, as a list where it has nulls or lists."""
    plain = column.null_count or pa.types.is_list(column.type) or pa.types.is_string(column.type)
    return column.to_pylist() if plain else column.to_numpy(zero_copy_only=False)
