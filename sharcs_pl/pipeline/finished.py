"""A finished run as an object: its results, and what can be done with its model."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.config import COMMAND_SCHEMAS
from sharcs_pl.config.command_line import read_command
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.folder import read_json
from sharcs_pl.pipeline import calibrate, evaluate, export
from sharcs_pl.pipeline.calls import Call
from sharcs_pl.pipeline.console import left_as_found

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sharcs_pl.data.frames import Rows
    from sharcs_pl.inference.predictor import RoutedPredictor
    from sharcs_pl.models.routed import SharcsForSequenceClassification

_NAMES = {"task.dev": "dev", "task.test": "test", "task.calibration": "calibration"}


class TrainedRun:
    """A run directory. `directory` is its absolute path."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).expanduser().absolute()

    @property
    def metrics(self) -> dict[str, Any]:
        """The contents of ``metrics.json``. Raise ``ValueError`` while the run is not finished."""
        path = self.directory / "metrics.json"
        if not path.is_file():
            raise ValueError(f"{self.directory} has no metrics.json yet: its run is not finished")
        return read_json(path)

    @property
    def figures(self) -> dict[str, Path]:
        """The figures by name. Without the extra ``[plots]`` there are none."""
        return {path.stem: path for path in sorted((self.directory / "figures").glob("*.png"))}

    def predictor(self, **options: Any) -> RoutedPredictor:
        """Return a predictor with the model; `options` are the arguments of `RoutedPredictor`, and ``device``."""
        from sharcs_pl.inference.predictor import RoutedPredictor

        return RoutedPredictor.from_pretrained(self.directory, **options)

    def model(self) -> SharcsForSequenceClassification:
        """Return the model, on the CPU and ready to answer."""
        from sharcs_pl.inference.loading import load_model

        return load_model(open_trained(str(self.directory)))

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the model's tokenizer."""
        from sharcs_pl.inference.loading import load_tokenizer

        return load_tokenizer(open_trained(str(self.directory)))

    def evaluate(
        self,
        split: str | None = None,
        *,
        dev: Rows | str | os.PathLike[str] | None = None,
        test: Rows | str | os.PathLike[str] | None = None,
        compare: TrainedRun | str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str] | None = None,
        eval_batch_size: int | None = None,
        accelerator: str | None = None,
        **options: Any,
    ) -> dict[str, Any] | None:
        """Evaluate the model as ``sharcs evaluate`` does; return what it writes to ``metrics.json``, None where the
        texts have no labels.

        Args:
            split: "validation" or "test"; None for "test" if `test` is given.
            dev: other texts to evaluate on: rows in memory, or a file.
            test: texts to predict, which need no labels.
            compare: second run, to compare with by a paired bootstrap.
            output: folder of the results; None for one in the run directory.
            options: further keys of the command, such as ``**{"cost.audit": True}``.
        """
        arguments = {
            "split": split or (None if test is None else "test"),
            "compare": compare.directory if isinstance(compare, TrainedRun) else compare,
            "output": output,
            "eval_batch_size": eval_batch_size,
            "accelerator": accelerator,
        }
        return self._command("evaluate", evaluate.run, arguments, options, {"task.dev": dev, "task.test": test})

    def calibrate(
        self,
        *,
        budget: float | None = None,
        latency_ms: float | None = None,
        max_drop: float | None = None,
        rule: str | None = None,
        name: str | None = None,
        default: bool | None = None,
        overwrite: bool | None = None,
        dev: Rows | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Set the budget of the model as ``sharcs calibrate`` does; return the operating point that it keeps.

        Args:
            budget: multiply-adds per text as a fraction of the dense model's; give this, `latency_ms` or `max_drop`.
            rule: "router", "cascade", "router+cascade" or "best".
            name: name of the point, for ``predictor(point=name)``; None for one after the target.
            default: use the point where none is named.
            dev: labelled texts to calibrate on: rows in memory, or a file; None for the run's own.
            options: further keys of the command, such as ``confidence`` and ``holdout``.
        """
        arguments = {"budget": budget, "latency_ms": latency_ms, "max_drop": max_drop, "rule": rule, "name": name}
        arguments |= {"default": default, "overwrite": overwrite}
        return self._command("calibrate", calibrate.run, arguments, options, {"task.dev": dev})

    def export(
        self,
        output: str | os.PathLike[str],
        *,
        format: str | None = None,
        rung: str | int | float | None = None,
        overwrite: bool | None = None,
        **options: Any,
    ) -> Path:
        """Export the model as ``sharcs export`` does; return the path of the file, or of the folder.

        Args:
            output: file to write, such as ``model.onnx``; a folder for the formats "hub", "transformers" and "parts".
            format: "onnx" (the default), "hub", "torch", "transformers" or "parts".
            rung: single sub-network to export, by index or width.
            options: further keys of the command, such as ``backend`` and ``precision`` of parts.
        """
        arguments = {"output": output, "format": format, "rung": None if rung is None else str(rung)}
        self._command("export", export.run, arguments | {"overwrite": overwrite}, options, {})
        return Path(output).expanduser().absolute()

    def _command(
        self, name: str, run: Any, arguments: Mapping[str, Any], options: Mapping[str, Any], rows: Mapping[str, Any]
    ) -> Any:
        call = Call(COMMAND_SCHEMAS[name], dict(_NAMES))
        with call.errors(), tempfile.TemporaryDirectory(prefix="sharcs-") as folder:
            call.take({"run": self.directory, **arguments}, options)
            for key, given in rows.items():
                call.take_rows(key, given, partial(self._columns, call.names[key]))
            config = read_command(name, COMMAND_SCHEMAS[name], call.overrides(Path(folder)))
            call.write()
            with left_as_found():
                return run(config)

    def _columns(self, name: str) -> tuple[list[str], list[str]]:
        """Return the text and the label columns of the run's own data. Raise ``ValueError`` for a built-in task."""
        task = open_trained(str(self.directory)).config.task
        if not task.is_custom:
            raise ValueError(f"{name}: this run is of task={task.name}, which takes no rows")
        return task.text_columns, task.label_columns

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.directory)!r})"

    def _repr_html_(self) -> str:
        """Return the end table and the figures, for a notebook."""
        parts = [f"<p><code>{escape(str(self.directory))}</code></p>"]
        if (self.directory / "metrics.json").is_file():
            parts.append(_table(self.metrics))
        for name, path in self.figures.items():
            content = base64.b64encode(path.read_bytes()).decode()
            parts.append(f'<img alt="{escape(name)}" src="data:image/png;base64,{content}" style="max-width: 32em">')
        return "\n".join(parts)


def _table(metrics: Mapping[str, Any]) -> str:
    """Return the points of ``metrics.json`` as a table."""
    rows = [("routed", metrics["routed"])]
    for rung in metrics["rungs"]:
        rows.append((f"layer {rung['layer']}" if "layer" in rung else f"width {rung['width']:g}", rung))
    rows += [("random, same shares", metrics["random"]), ("oracle", metrics["oracle"])]
    lines = [f"<tr><th></th><th>{escape(metrics['metric'])}</th><th>samples</th><th>of dense</th></tr>"]
    for title, point in rows:
        cells = (
            _number(point["value"], ".4f"),
            _number(point.get("share"), ".1%"),
            _number(point["macs_fraction"], ".1%"),
        )
        lines.append(f"<tr><th>{escape(title)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
