"""The inputs of a prediction, checked before its model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sharcs_pl.config.predict import PIPE, PredictConfig
from sharcs_pl.core.version import __version__
from sharcs_pl.data.files import format_of
from sharcs_pl.data.tasks import get_task
from sharcs_pl.inference.journal import check_fingerprint, journal_path
from sharcs_pl.inference.rows import (
    InputLayout,
    InputRow,
    Rejected,
    check_first_row,
    check_input,
    check_layout,
    count_rows,
    read_inputs,
)
from sharcs_pl.inference.serving import Serving
from sharcs_pl.inference.trained import (
    TrainedModel,
    check_options,
    model_digest,
    open_trained,
    rule_settings,
    text_columns_of,
)
from sharcs_pl.inference.writers import check_output_file

_OPTIONS = ("mode", "batch_size", "max_wait_ms", "backend", "precision", "compile", "device", "explain")


@dataclass(frozen=True)
class CheckedModel:
    """A model that can answer as it is asked to and is not loaded yet. `settings`: its own config; `routing`: the
    options that choose the widths."""

    source: TrainedModel
    settings: dict[str, Any]
    max_length: int
    routing: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """A hash of weights, tokenizer and config."""
        return model_digest(self.source, self.settings)


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


def prepare(config: PredictConfig) -> PredictionInputs:
    """Check paths, model and input, the cheapest first."""
    for key in ("shard", "output_format"):
        if (value := getattr(config, key)) is not None:
            raise ValueError(f"{key}={value} is for many files; give a folder, a glob or a list as input")
    path = None if config.input == PIPE else check_input(config.input)
    output = None if config.output == PIPE else check_output_file(config.output, path, config.overwrite)
    model = check_model(config)
    layout = make_layout(config, model.source, path)
    fingerprint = fingerprint_of(config, model, layout)
    if config.resume and output is not None and journal_path(output).exists():
        check_fingerprint(journal_path(output), fingerprint)
    return read_rows(config, model, layout, output, fingerprint)


def check_model(config: PredictConfig) -> CheckedModel:
    """Check the model and what it is asked for."""
    source = open_trained(config.run, record_needed=False)
    settings, max_length = check_options(source, config.point, config.max_length)
    serving = Serving(config.backend, config.precision)
    serving.check(source)
    serving.warn_of_point(source, config.point)
    routing = {
        "point": config.point or settings.get("operating_point"),
        "thresholds": rule_settings(settings, config.point),
    }
    if settings.get("label_thresholds"):
        routing["label_thresholds"] = settings["label_thresholds"]
    return CheckedModel(source, settings, max_length, routing)


def read_rows(
    config: PredictConfig,
    model: CheckedModel,
    layout: InputLayout,
    output: Path | None,
    fingerprint: dict[str, Any],
    whole: bool = False,
) -> PredictionInputs:
    """Check the rows of an input, all of a file's and the first of a pipe, and begin to read them. `whole` is that of
    `count_rows`."""
    total = None if layout.path is None else count_rows(layout, config.skips, whole)
    rows = check_first_row(read_inputs(layout), config.skips) if layout.path is None else read_inputs(layout)
    return PredictionInputs(model.source, layout, rows, output, total, model.max_length, fingerprint)


def make_layout(config: PredictConfig, source: TrainedModel, path: Path | None) -> InputLayout:
    """Return the layout of the input, by default with the run's own columns and the quotes of its own files."""
    task = source.config.task
    known = None if task.is_custom else get_task(task.name)
    text, allow_empty = text_columns_of(source, config.text)
    suffix = f".{config.format}" if path is None else format_of(path)[0]
    quoting = task.quoting if known is None else "none" if suffix == ".tsv" else "standard"
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


def fingerprint_of(config: PredictConfig, model: CheckedModel, layout: InputLayout) -> dict[str, Any]:
    """Return all that the answers to an input depend on."""
    place = None
    if layout.path is not None:
        stat = layout.path.stat()
        place = {"path": str(layout.path.absolute()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    written = {"quoting": layout.quoting, "delimiter": layout.delimiter, "encoding": layout.encoding}
    columns = {"text": layout.text, "keep": layout.keep, **written, "usual_delimiter": layout.usual_delimiter}
    options = {key: getattr(config, key) for key in _OPTIONS}
    described = {"input": place, **columns, "max_length": model.max_length, **options, "version": __version__}
    return model.routing | described | {"model": model.digest}
