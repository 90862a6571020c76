"""Rows of parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sharcs_pl.data.columns import Request, Row, check_columns
from sharcs_pl.data.containers import Opened
from sharcs_pl.data.lines import Fault
from sharcs_pl.data.shown import shown

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 4096  # rows in memory at once
_UNDECODED = object()  # a text that is not UTF-8


def read_parquet(source: Opened, request: Request) -> Iterator[Row | Fault]:
    """Yield the rows with their stored values, which may be None."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = source.name
    try:
        with pq.ParquetFile(source.file) as table:
            columns = request.present(table.schema_arrow.names)
            check_columns(name, table.schema_arrow.names, columns)
            start = 1
            for batch in table.iter_batches(_BATCH, columns=list(columns)):
                values = [_values(batch.column(column)) for column in columns]
                for row, cells in enumerate(zip(*values, strict=True), start):
                    place = f"{name}, row {row}"
                    yield Fault(place, "not UTF-8") if _UNDECODED in cells else (place, cells)
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        yield Fault(name, f"not a whole parquet file: {shown(str(error), 160)}", ends=True)


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _UNDECODED
