"""Writers of answers as JSONL, CSV, TSV or parquet, from the journal once all of them are there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.files import atomic_file, writable_path
from sharcs_pl.core.finite import without_nan
from sharcs_pl.core.text_files import CellWriter
from sharcs_pl.data.containers import format_of, opened_to_write
from sharcs_pl.inference.journal import Journal, Record, journal_path
from sharcs_pl.inference.rows import InputRow

if TYPE_CHECKING:
    import pyarrow as pa

    from sharcs_pl.inference.predictor import Prediction, RoutedPredictor

_ROUTER = DecisionRule()
_BATCH = 4096  # rows of a parquet batch
_DIGITS = 6  # of a probability: float32 holds no more
_VALUE_DIGITS = 7  # significant ones of a regression's value
RESERVED = ("row", "label", "probabilities", "rung", "width", "macs", "router_scores", "certainties")


@dataclass(frozen=True)
class Columns:
    """The columns of an output: the `kept` columns of the input by their names there, a probability per class
    (`classes` empty for a regression), and with `explain` what the `rule` read at each of the `widths`: the router's
    scores, a cascade's certainties. `several`: a text has a list of labels."""

    kept: tuple[str, ...]
    classes: tuple[str, ...]
    widths: tuple[str, ...]
    explain: bool
    rule: DecisionRule = _ROUTER
    several: bool = False

    @property
    def kept_names(self) -> tuple[str, ...]:
        """The names of the kept columns in the output, with ``input_`` before one that an output column has."""
        explained = (f"{name}_{width}" for name in ("router", "certainty") for width in self.widths)
        taken = {*RESERVED, *self.probabilities, *explained}
        names: list[str] = []
        for name in self.kept:
            while name in taken:
                name = f"input_{name}"
            taken.add(name)
            names.append(name)
        return tuple(names)

    @property
    def probabilities(self) -> tuple[str, ...]:
        """The columns of a table's probabilities."""
        return tuple(f"p_{name}" for name in self.classes)

    @property
    def scores(self) -> tuple[str, ...]:
        """The columns of a table's router scores and certainties."""
        names = [*["router"] * self.rule.routed, *["certainty"] * self.rule.cascades]
        return tuple(f"{name}_{width}" for name in names for width in self.widths) if self.explain else ()

    @property
    def header(self) -> tuple[str, ...]:
        """A table's columns in order."""
        ends = ("rung", "width", "macs", *self.scores)
        return ("row", *self.kept_names, "label", *self.probabilities, *ends)

    def record(self, row: InputRow, prediction: Prediction) -> dict[str, Any]:
        """Return an answer as JSONL writes it."""
        found: dict[str, Any] = {"row": row.number, **dict(zip(self.kept_names, row.kept, strict=True))}
        if self.classes:
            rounded = [round(value, _DIGITS) for value in prediction.probabilities]
            label = list(prediction.label) if isinstance(prediction.label, tuple) else prediction.label
            found |= {"label": label, "probabilities": dict(zip(self.classes, rounded, strict=True))}
        else:
            assert isinstance(prediction.label, float)
            found["label"] = float(f"{prediction.label:.{_VALUE_DIGITS}g}")
        found |= {"rung": prediction.rung, "width": prediction.width, "macs": prediction.macs}
        if self.explain:
            scores = [round(value, _DIGITS) for value in prediction.router_scores]
            found["router_scores"] = dict(zip(self.widths, scores, strict=bool(scores)))
        if self.explain and self.rule.cascades:
            tried = self.widths[prediction.rung + 1 - len(prediction.certainties) : prediction.rung + 1]
            sure = [round(x, _DIGITS) if math.isfinite(x) else None for x in prediction.certainties]
            found["certainties"] = dict(zip(tried, sure, strict=True))
        return found

    def values(self, record: dict[str, Any]) -> list[Any]:
        """Return a record as a row of a table."""
        probabilities = record.get("probabilities", {})
        read = [*["router_scores"] * self.rule.routed, *["certainties"] * self.rule.cascades] * self.explain
        return [
            record["row"],
            *(record[name] for name in self.kept_names),
            record["label"],
            *(probabilities[name] for name in self.classes),
            *(record[name] for name in ("rung", "width", "macs")),
            *(record.get(name, {}).get(width) for name in read for width in self.widths),
        ]


def columns_of(predictor: RoutedPredictor, kept: tuple[str, ...], explain: bool) -> Columns:
    """Return the columns of the answers of a predictor."""
    several = predictor.thresholds is not None
    return Columns(kept, predictor.labels or (), tuple(predictor.widths), explain, predictor.rule, several)


def rejected_path(output: Path) -> Path:
    """Return the path of the list of an output's rejected rows."""
    packed = format_of(output)[1]
    name = output.stem if packed is None else Path(output.stem).stem
    return output.with_name(f"{name}.rejected.jsonl")


def check_output_file(value: str, source: Path | None, overwrite: bool) -> Path:
    """Return the path that ``output=`` names. Raise `ValueError` unless it can be written, is not there already (or
    shall be replaced: `overwrite`) and is not the input `source`."""
    given = f"output={value}"
    check_output_suffix(given, Path(value), ", or -")
    path = writable_path("output", value)
    for written in (path, journal_path(path), rejected_path(path)):
        if source is not None and written.exists() and written.samefile(source):
            raise ValueError(f"{given} would replace the input {source}; choose another name")
    if path.exists() and not overwrite:
        raise ValueError(f"{given} is there already; replace it with overwrite=true, or choose another name")
    return path


def check_output_suffix(given: str, path: Path, others: str = "") -> None:
    """Raise `ValueError`, which begins with what was `given`, unless an output can have the suffixes of a path.
    `others`: further choices."""
    suffix, packed = format_of(path)
    if packed and suffix == ".parquet":
        raise ValueError(f"{given}: a {suffix} file is compressed inside; leave {packed} out")
    if packed and not suffix:
        raise ValueError(f"{given}: the name must tell the format before {packed}, such as answers.jsonl{packed}")
    if suffix not in WRITERS:
        raise ValueError(f"{given}: the suffix {suffix!r} is not supported; choose among {', '.join(WRITERS)}{others}")


def finish(journal: Journal, output: Path, columns: Columns) -> None:
    """Write the output and the list of rejected rows, each whole, from a complete journal, which is then removed."""
    write_answers(journal, output, columns)
    journal.remove()


def write_answers(journal: Journal, output: Path, columns: Columns) -> None:
    """Write the output and the list of rejected rows, each whole, from a complete journal."""
    suffix, packed = format_of(output)
    with atomic_file(output, ".new") as part:  # .part is the journal's
        with opened_to_write(part, packed) as file:
            WRITERS[suffix](file, journal, columns)
        rejected = rejected_path(output)
        if any(isinstance(record, list) for record in journal.records()):
            with atomic_file(rejected, ".new") as listed, opened_to_write(listed, None) as file:
                _write_lines(file, map(_rejection, _rejections(journal)))
        else:
            rejected.unlink(missing_ok=True)


def json_line(record: Record) -> str:
    """Return a record as a line of JSONL, with null for a number carried along that JSON cannot hold."""
    return json.dumps(without_nan(record), ensure_ascii=False, default=str, allow_nan=False) + "\n"


def cell(value: Any) -> str:
    """Return a value of any kind as a cell's text: what JSON writes, texts as they are, nothing for null; NaN and
    Infinity only where they are the whole cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value if isinstance(value, float) else without_nan(value), ensure_ascii=False)


def _answers(journal: Journal) -> Iterator[dict[str, Any]]:
    return (record for record in journal.records() if isinstance(record, dict))


def _rejections(journal: Journal) -> Iterator[list[Any]]:
    return (record for record in journal.records() if isinstance(record, list))


def _rejection(record: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("row", "place", "error"), record, strict=True))


@contextmanager
def _as_text(file: BinaryIO) -> Iterator[TextIO]:
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield text
    finally:
        text.detach()  # which writes what is left, and leaves the file open


def _write_lines(file: BinaryIO, records: Iterable[dict[str, Any]]) -> None:
    with _as_text(file) as text:
        text.writelines(map(json_line, records))


def _write_jsonl(file: BinaryIO, journal: Journal, columns: Columns) -> None:
    _write_lines(file, _answers(journal))


def _write_delimited(file: BinaryIO, journal: Journal, columns: Columns, delimiter: str) -> None:
    with _as_text(file) as text:
        writer = CellWriter(text, delimiter)
        writer.write(columns.header)
        for record in _answers(journal):
            writer.write([cell(value) for value in columns.values(record)])


def _write_parquet(file: BinaryIO, journal: Journal, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(journal, columns)
    # JSON's kinds of numbers may be mixed in a column, and any value stands in a column of texts.
    turn = {pa.string(): cell, pa.float64(): float}
    rows = (columns.values(record) for record in _answers(journal))
    with pq.ParquetWriter(file, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            arrays = [
                pa.array(
                    [None if value is None else turn.get(field.type, _same)(value) for value in column], field.type
                )
                for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _same(value: Any) -> Any:
    return value


def _schema(journal: Journal, columns: Columns) -> pa.Schema:
    """Return the schema. Kept columns are numbers, truths or texts where all their values are, else texts as JSON."""
    import pyarrow as pa

    kinds: dict[str, set[type]] = {name: set() for name in columns.kept_names}
    for record in _answers(journal) if kinds else ():
        for name, found in kinds.items():
            found.add(_kind(record[name]))
    number, real, text = pa.int64(), pa.float64(), pa.string()
    types = {name: _arrow_type(found) for name, found in kinds.items()}
    label = pa.list_(text) if columns.several else text if columns.classes else real
    types |= {"row": number, "rung": number, "macs": number, "width": text, "label": label}
    return pa.schema([(name, types.get(name, real)) for name in columns.header])


def _kind(value: Any) -> type:
    """Return the type of a value; a whole number that parquet cannot hold counts as a text."""
    return str if isinstance(value, int) and not -(2**63) <= value < 2**63 else type(value)


def _arrow_type(kinds: set[type]) -> pa.DataType:
    import pyarrow as pa

    known = kinds - {type(None)}
    if known == {bool}:
        return pa.bool_()
    if known == {int}:
        return pa.int64()
    return pa.float64() if known and known <= {int, float} else pa.string()


WRITERS: dict[str, Callable[[BinaryIO, Journal, Columns], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": lambda file, journal, columns: _write_delimited(file, journal, columns, ","),
    ".tsv": lambda file, journal, columns: _write_delimited(file, journal, columns, "\t"),
    ".parquet": _write_parquet,
}
"""The writer of a whole file of answers, by the suffix of its format."""
