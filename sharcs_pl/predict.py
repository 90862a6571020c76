"""Answer texts with a trained model: ``sharcs predict run=runs/mine input=data.jsonl output=pred.jsonl``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.config.command_line import read_command, user_errors
from sharcs_pl.config.predict import PIPE, PredictConfig
from sharcs_pl.core.text import one_line
from sharcs_pl.core.version import __version__
from sharcs_pl.data.files import format_of
from sharcs_pl.data.tasks import get_task
from sharcs_pl.inference.journal import Journal, Record, check_fingerprint, journal_path
from sharcs_pl.inference.rows import (
    InputLayout,
    InputRow,
    Rejected,
    answer_rows,
    check_first_row,
    check_input,
    check_layout,
    count_rows,
    read_inputs,
)
from sharcs_pl.inference.serving import Serving
from sharcs_pl.inference.trained import TrainedModel, check_options, model_digest, open_trained, rule_settings
from sharcs_pl.inference.writers import Columns, check_output_file, finish, json_line

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import RoutedPredictor
    from sharcs_pl.inference.summary import Summary

SEGMENT = 128  # batches that are answered together, and again where a prediction goes on
BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count
_OPTIONS = ("mode", "batch_size", "max_wait_ms", "backend", "precision", "compile", "device", "explain")


class Stopped(BaseException):
    """A request to end the process, by Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


@dataclass(frozen=True)
class PredictionInputs:
    """A prediction whose inputs are checked and whose model is not loaded yet. `output` is None for stdout; `total` is
    the number of input rows, None for a pipe; `fingerprint` holds all that the answers depend on."""

    source: TrainedModel
    layout: InputLayout
    rows: Iterator[InputRow | Rejected]
    output: Path | None
    total: int | None
    max_length: int
    fingerprint: dict[str, Any]


def main() -> None:
    """Run the command. The exit code is 2 for a mistake (one line on stderr), 130 for Ctrl-C, 143 for SIGTERM, and 141
    when the reader of stdout has gone."""
    with user_errors(PredictConfig):
        try:
            run(read_command("predict", PredictConfig, sys.argv[1:]))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written nowhere, at exit
            raise SystemExit(BROKEN_PIPE) from None


def run(config: PredictConfig) -> Summary:
    """Read, answer and write; return what the table on stderr shows. Raise ``ValueError`` before a model is loaded for
    all that can be known by then, and ``SystemExit`` when the process is told to stop."""
    with stop_signals(), ExitStack() as held:
        journal = None
        try:
            prepared = prepare(config)
            predictor = load(prepared, config)
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


def prepare(config: PredictConfig) -> PredictionInputs:
    """Check paths, model and input, the cheapest first."""
    path = None if config.input == PIPE else check_input(config.input)
    output = None if config.output == PIPE else check_output_file(config.output, path, config.overwrite)
    source = open_trained(config.run, record_needed=False)
    settings, max_length = check_options(source, config.point, config.max_length)
    serving = Serving(config.backend, config.precision)
    serving.check(source)
    serving.warn_of_point(source, config.point)
    layout = make_layout(config, source, path)
    routing = {
        "point": config.point or settings.get("operating_point"),
        "thresholds": rule_settings(settings, config.point),
    }
    if settings.get("label_thresholds"):
        routing["label_thresholds"] = settings["label_thresholds"]
    fingerprint = routing | _fingerprint(config, layout, max_length) | {"model": model_digest(source, settings)}
    if config.resume and output is not None and journal_path(output).exists():
        check_fingerprint(journal_path(output), fingerprint)
    skip = config.on_error == "skip"
    total = None if path is None else count_rows(layout, skip)
    rows = check_first_row(read_inputs(layout), skip) if path is None else read_inputs(layout)
    return PredictionInputs(source, layout, rows, output, total, max_length, fingerprint)


def make_layout(config: PredictConfig, source: TrainedModel, path: Path | None) -> InputLayout:
    """Return the layout of the input, by default with the run's own columns and the quotes of its own files."""
    task = source.config.task
    known = None if task.is_custom else get_task(task.name)
    theirs = tuple(task.text_columns) if known is None else known.text_columns
    text = config.text_columns or theirs
    if len(text) != len(theirs) and source.recorded:
        raise ValueError(
            f"text={config.text} names {len(text)} columns, this model reads {len(theirs)}: {', '.join(theirs)}"
        )
    suffix = f".{config.format}" if path is None else format_of(path)[0]
    quoting = task.quoting if known is None else "none" if suffix == ".tsv" else "standard"
    allow_empty = known is not None and known.allow_empty
    layout = InputLayout(
        path,
        suffix,
        text,
        config.kept_columns,
        config.quoting or quoting,
        config.delimiter,
        config.encoding,
        task.delimiter,
        allow_empty,
    )
    check_layout(layout)
    return layout


def _fingerprint(config: PredictConfig, layout: InputLayout, max_length: int) -> dict[str, Any]:
    place = None
    if layout.path is not None:
        stat = layout.path.stat()
        place = {"path": str(layout.path.absolute()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    written = {"quoting": layout.quoting, "delimiter": layout.delimiter, "encoding": layout.encoding}
    columns = {"text": layout.text, "keep": layout.keep, **written, "usual_delimiter": layout.usual_delimiter}
    options = {key: getattr(config, key) for key in _OPTIONS}
    return {"input": place, **columns, "max_length": max_length, **options, "version": __version__}


def load(prepared: PredictionInputs, config: PredictConfig) -> RoutedPredictor:
    """Load the model and its tokenizer."""
    from sharcs_pl.inference.opening import open_predictor

    return open_predictor(
        prepared.source,
        config.device,
        config.backend,
        batch_size=config.batch_size,
        max_length=prepared.max_length,
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
    from sharcs_pl.inference.summary import RunningSummary, progress

    running = RunningSummary(predictor.cost, predictor.max_length, predictor.rule)
    widths, rule = tuple(predictor.widths), predictor.rule
    names, several = predictor.labels or (), predictor.thresholds is not None
    columns = Columns(prepared.layout.keep, names, widths, config.explain, rule, several)
    for record in journal.records() if journal and journal.rows else ():
        running.add(record)
    running.start()
    done = journal.rows if journal else 0
    add = _to_stdout if journal is None else journal.add
    with progress(prepared.total, done) as advance:
        for record in records(prepared, predictor, columns, config, done):
            add(record)
            running.add(record)
            advance()
    summary = running.summary()
    if journal is not None and prepared.output is not None:
        finish(journal, prepared.output, columns)
    return summary


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


if __name__ == "__main__":
    main()
