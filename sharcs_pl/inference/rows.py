"""The rows of a prediction: read one by one, unusable ones among them, and joined with their answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.data.containers import Opened, standard_input
from sharcs_pl.data.files import READERS, Request, Row, check_file, rows_in, shown, source_of, text_fault
from sharcs_pl.data.lines import Fault, TextLines

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import Prediction, Text

LINES = ".txt"  # a text per line, no columns
_NAMED = 100  # rows of a pipe that may all be unusable before it is given up


@dataclass(frozen=True)
class InputLayout:
    """The place of the rows, and what is read of them.

    `path` is None for stdin, `suffix` the format. `text` names one or two columns, `keep` the columns carried along.
    `quoting`, `delimiter`, `encoding` and `usual_delimiter` are as in a `Request`. `allow_empty` admits empty texts.
    """

    path: Path | None
    suffix: str
    text: tuple[str, ...]
    keep: tuple[str, ...] = ()
    quoting: str = "standard"
    delimiter: str | None = None
    encoding: str | None = None
    usual_delimiter: str | None = None
    allow_empty: bool = False

    @property
    def name(self) -> str:
        """The name of the input in messages."""
        return "stdin" if self.path is None else self.path.name

    @property
    def request(self) -> Request:
        """Return the columns to read, each once, the texts first."""
        columns = tuple(dict.fromkeys((*self.text, *self.keep)))
        return Request(columns, (), self.quoting, self.delimiter, self.encoding, self.usual_delimiter, prefix="")


@dataclass(frozen=True)
class InputRow:
    """A row to predict: its number (from 1), its one or two texts, the values that are carried along, and its place in
    the file."""

    number: int
    texts: tuple[str, ...]
    kept: tuple[Any, ...]
    place: str = field(default="", compare=False)

    @property
    def text(self) -> Text:
        """The text, or the pair of texts, as a predictor takes it."""
        return self.texts[0] if len(self.texts) == 1 else (self.texts[0], self.texts[1])


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be predicted: its number, its place in the file and why. `ends`: nothing after it is read."""

    number: int
    place: str
    error: str
    ends: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.error}"

    @classmethod
    def unanswered(cls, row: InputRow) -> Rejected:
        """Return the rejection of a readable row to which the model has no finite answer."""
        return cls(row.number, row.place, "the model's answer to it is not finite")


def check_input(value: str) -> Path:
    """Return the file that ``input=`` names. Raise `ValueError` when it is missing or of an unknown format."""
    return check_file("input", value, (*READERS, LINES))


def check_layout(layout: InputLayout) -> None:
    """Raise `ValueError` where the format lacks the columns that are asked for."""
    if layout.suffix == LINES and (len(layout.text) > 1 or layout.keep):
        columns = ", ".join((*layout.text, *layout.keep))
        raise ValueError(f"{layout.name}: a .txt input has one text per line and no columns such as {columns}")


def read_inputs(layout: InputLayout) -> Iterator[InputRow | Rejected]:
    """Yield every row in order. Raise `ValueError` for a header that cannot serve, or an input without rows."""
    number = 0
    for number, found in enumerate(_found(layout), 1):
        if isinstance(found, Fault):
            reason = f"{found.reason}; nothing after it was read" if found.ends else found.reason
            yield Rejected(number, found.place, reason, found.ends)
        else:
            yield _input_row(number, found, layout)
    if number == 0:
        raise ValueError(f"{layout.name}: no rows")


def count_rows(layout: InputLayout, skip: bool, whole: bool = False) -> int:
    """Read a file once and return its number of rows. Raise `ValueError` for the first row that cannot be used, with
    `skip` only where no row can, or where a `whole` file is asked for and its end cannot be read."""
    first, usable, number = None, 0, 0
    for row in read_inputs(layout):
        number = row.number
        if isinstance(row, InputRow):
            usable += 1
        elif not skip or (whole and row.ends):
            raise ValueError(str(row))
        else:
            first = first or row
    if not usable:
        raise ValueError(f"{layout.name}: none of its {number:,} rows can be used; {first}")
    return number


def check_first_row(rows: Iterator[InputRow | Rejected], skip: bool) -> Iterator[InputRow | Rejected]:
    """Return the rows, after a check that the first can be used: `count_rows`'s check, as far as a pipe allows."""
    head: list[InputRow | Rejected] = []
    for row in islice(rows, _NAMED):
        head.append(row)
        if isinstance(row, InputRow):
            return chain(head, rows)
        if not skip:
            break
    raise ValueError(str(head[0]))


def answer_rows(
    rows: Iterator[InputRow | Rejected],
    predict: Callable[[Iterator[Text]], Iterable[Prediction | None]],
    segment: int,
    skip: bool,
) -> Iterator[tuple[InputRow | Rejected, Prediction | None]]:
    """Yield every row with its answer, in order. The answer is None for a row that is rejected, or that `predict` has
    no finite answer to, which ends them all unless `skip`.

    Each `segment` of rows is answered by a call of its own, so that its answers do not depend on what came before; one
    that starts at a segment's boundary gives them again bit for bit. Less than a segment is held in memory.
    """
    for first in rows:
        for row, prediction in _segment(islice(chain([first], rows), segment), predict, skip):
            yield row, prediction
            if prediction is None and not skip:
                return


def _segment(
    rows: Iterator[InputRow | Rejected], predict: Callable[[Iterator[Text]], Iterable[Prediction | None]], skip: bool
) -> Iterator[tuple[InputRow | Rejected, Prediction | None]]:
    waiting: deque[InputRow | Rejected] = deque()

    def texts() -> Iterator[Text]:
        for row in rows:
            waiting.append(row)
            if isinstance(row, InputRow):
                yield row.text
            elif not skip:
                return  # what came before it is still answered

    for prediction in predict(texts()):
        while isinstance(row := waiting.popleft(), Rejected):
            yield row, None
        yield row, prediction
    assert not any(isinstance(row, InputRow) for row in waiting)
    yield from ((row, None) for row in waiting)


def _found(layout: InputLayout) -> Iterator[Row | Fault]:
    request = layout.request
    if layout.path is None:
        source = standard_input(request.encoding, request.key("encoding"))
    else:
        source = source_of(layout.path, request)
    return rows_in(source, layout.name, _read_lines if layout.suffix == LINES else READERS[layout.suffix], request)


def _read_lines(source: Opened, request: Request) -> Iterator[Row | Fault]:
    """Yield a row per line, so that the answers pair with the lines; a blank line is an empty text."""
    lines = TextLines(source, request.key("encoding"), returns=False)
    for line in lines:
        fault = lines.fault
        lines.begin()
        yield fault or (lines.place(lines.number), (line.removesuffix("\n").removesuffix("\r"),))


def _input_row(number: int, found: Row, layout: InputLayout) -> InputRow | Rejected:
    place, values = found
    columns = layout.request.columns
    texts = values[: len(layout.text)]
    error = text_fault(texts, layout.text, layout.allow_empty)
    if error and layout.suffix == LINES:
        error = "the line is empty"  # has no column to name
    kept = tuple(values[columns.index(column)] for column in layout.keep)
    for column, value in zip(layout.keep, kept, strict=True):
        if isinstance(value, bytes):
            error = error or f"{shown(column)} holds bytes, which no output takes; leave it out of keep"
    return Rejected(number, place, error) if error else InputRow(number, texts, kept, place)
