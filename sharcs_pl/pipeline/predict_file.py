"""The prediction of a file or a pipe: read, answer, write."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from sharcs_pl.config.predict import PIPE, PredictConfig
from sharcs_pl.core.text import one_line
from sharcs_pl.inference.journal import Journal, Record, journal_path
from sharcs_pl.inference.rows import InputRow, Rejected, answer_rows
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.inference.writers import Columns, columns_of, finish, json_line
from sharcs_pl.pipeline.prediction_inputs import PredictionInputs, prepare

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import RoutedPredictor
    from sharcs_pl.inference.summary import Summary

SEGMENT = 128  # batches that are answered together, and again where a prediction goes on


class Stopped(BaseException):
    """A request to end the process, by Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def predict_file(config: PredictConfig) -> Summary:
    """Read, answer and write; return what the table on stderr shows. Raise ``ValueError`` before a model is loaded for
    all that can be known by then, and ``SystemExit`` when the process is told to stop."""
    with stop_signals(), ExitStack() as held:
        journal = None
        try:
            prepared = prepare(config)
            predictor = load(prepared.source, prepared.max_length, config)
            if prepared.output is not None:
                journal = held.enter_context(open_journal(prepared, config))
            summary = answer(prepared, predictor, journal, config)
        except Stopped as stopped:
            print(_how_to_go_on(journal, config), file=sys.stderr)
            raise SystemExit(stopped.code) from None
        except (ValueError, OSError):
            if journal is not None and config.input == PIPE:
                journal.remove()  # nothing can go on from it
            raise
    present(prepared, summary)
    return summary


def load(source: TrainedModel, max_length: int, config: PredictConfig) -> RoutedPredictor:
    """Load the model and its tokenizer."""
    from sharcs_pl.inference.opening import open_predictor

    return open_predictor(
        source,
        config.device,
        config.backend,
        batch_size=config.batch_size,
        max_length=max_length,
        point=config.point,
        precision=config.precision,
        compile=config.compile,
    )


def open_journal(prepared: PredictionInputs, config: PredictConfig) -> Journal:
    """Open a new journal, or with ``resume=true`` the existing one."""
    assert prepared.output is not None
    path = journal_path(prepared.output)
    if config.resume:
        return Journal.resume(path, prepared.fingerprint, SEGMENT * config.batch_size)
    return Journal.begin(path, prepared.fingerprint)


def answer(
    prepared: PredictionInputs, predictor: RoutedPredictor, journal: Journal | None, config: PredictConfig
) -> Summary:
    """Answer every row into the journal and from there into the output, or straight to stdout."""
    from sharcs_pl.inference.summary import progress

    columns = columns_of(predictor, prepared.layout.keep, config.explain)
    with progress(prepared.total, journal.rows if journal else 0) as advance:
        summary = answer_rest(prepared, predictor, columns, journal, config, lambda record: advance())
    if journal is not None and prepared.output is not None:
        finish(journal, prepared.output, columns)
    return summary


def answer_rest(
    prepared: PredictionInputs,
    predictor: RoutedPredictor,
    columns: Columns,
    journal: Journal | None,
    config: PredictConfig,
    told: Callable[[Record], None],
) -> Summary:
    """Answer the rows after those of the journal into it, or all rows to stdout; `told` is called with each."""
    from sharcs_pl.inference.summary import RunningSummary

    running = RunningSummary(predictor.cost, predictor.max_length, predictor.rule)
    for record in journal.records() if journal and journal.rows else ():
        running.add(record)
    running.start()
    add = _to_stdout if journal is None else journal.add
    for record in records(prepared, predictor, columns, config, journal.rows if journal else 0):
        add(record)
        running.add(record)
        told(record)
    return running.summary()


def records(
    prepared: PredictionInputs, predictor: RoutedPredictor, columns: Columns, config: PredictConfig, done: int
) -> Iterator[Record]:
    """Yield the record of each row after the first ``done``. Raise ``ValueError`` at a row that is rejected or has no
    finite answer, unless such rows are skipped."""
    wait = None if config.max_wait_ms is None else config.max_wait_ms / 1000

    def predict(texts: Iterator[Any]) -> Any:
        return predictor.try_predict(list(texts)) if config.mode == "batch" else predictor.try_stream(texts, wait)

    skip = config.on_error == "skip"
    rows = islice(prepared.rows, done, None)
    for row, prediction in answer_rows(rows, predict, SEGMENT * config.batch_size, skip):
        if isinstance(row, InputRow) and prediction is not None:
            yield columns.record(row, prediction)
            continue
        hint = "; on_error=skip goes on without such rows" if isinstance(row, InputRow) else ""
        fault = Rejected.unanswered(row) if isinstance(row, InputRow) else row
        if not skip:
            raise ValueError(f"{fault}{hint}")
        yield [fault.number, fault.place, fault.error]


def _to_stdout(record: Record) -> None:
    if isinstance(record, list):
        print(f"rejected: {one_line(record[1])}: {one_line(record[2])}", file=sys.stderr)
        return
    sys.stdout.buffer.write(json_line(record).encode())
    sys.stdout.buffer.flush()  # whoever reads it may be waiting


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise ``Stopped`` on Ctrl-C and SIGTERM inside the block; only the main thread can ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how_to_go_on(journal: Journal | None, config: PredictConfig) -> str:
    """Return the message of an interruption. The rows of a pipe are gone, so its journal is removed."""
    if journal is None:
        return "interrupted"
    if config.input == PIPE:
        journal.remove()
        return "interrupted; input=- is a pipe, which cannot be resumed"
    return f"interrupted after {journal.rows:,} rows, kept in {journal.path}; the same command with resume=true goes on"


def present(prepared: PredictionInputs, summary: Summary) -> None:
    """Print the table on stderr, and where the answers are."""
    from sharcs_pl.core.screen import Screen
    from sharcs_pl.inference.summary import summary_table

    console = Screen(stderr=True)
    console.print(summary_table(prepared.layout.name, summary))
    if prepared.output is not None:
        console.print(f"answers in {prepared.output}", soft_wrap=True)
