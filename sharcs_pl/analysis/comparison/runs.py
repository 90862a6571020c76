"""The results in a finished run's directory, read without its model: points, answers, measured times.

``curve.csv`` holds every operating point; ``method`` is the method's name, for a control with ``/<control>`` after it.
A run without the file has the points of ``metrics.json``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharcs_pl.core.finite import read_json
from sharcs_pl.core.renamed import CUSTOM, current_task
from sharcs_pl.core.text import check_plain_name, one_line
from sharcs_pl.data.delimited import cells_of_any_size
from sharcs_pl.data.spec import METRICS_BY_KIND, metric_name
from sharcs_pl.inference.record import MARKER
from sharcs_pl.runs.files import PREDICTION_COLUMNS

OWN = ""  # the control's name of a method's own rule
_WHOLE = 0.98  # of the stock model's cost
KNOWN_METRICS = tuple(dict.fromkeys(name for names in METRICS_BY_KIND.values() for name in names))
_OF_LABELS = ("micro_f1", "exact_match", "hamming")
RESULTS = "metrics.json"
# Not part of what tells one configuration from another.
_NOT_PART = {
    "seed", "overwrite", "ckpt_path", "logger", "method.match", "checkpoint.save_last", "checkpoint.every_n_epochs",
    "checkpoint.every_n_steps", "checkpoint.every_n_minutes",
}  # fmt: skip


@dataclass(frozen=True)
class CurvePoint:
    """One operating point: its metric, and its multiply-adds per sample."""

    name: str
    value: float
    macs: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.macs) and self.macs >= 0):
            raise ValueError(f"point {self.name!r} has value {self.value} at {self.macs} multiply-adds")


@dataclass(frozen=True)
class SavedAnswers:
    """The contents of ``predictions.tsv``: each sample's uid, label and prediction, as text, and `samples`, a hash of
    all uids, labels and texts. Runs of equal hashes were evaluated on the same samples."""

    uids: tuple[str, ...]
    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    samples: str


@dataclass(frozen=True)
class RunResult:
    """A finished run. `curves` holds points by control, `OWN` for the method's own; `settings` is its config as flat
    text; `classes` are in the order of their ids where the run says them, and f1 is about the `positive` one; `static`
    marks one width for every sample, `several` answers that are lists of labels."""

    path: Path
    task: str
    metric: str
    method: str
    encoder: str
    seed: int
    dense_macs: float
    routed: CurvePoint
    curves: dict[str, list[CurvePoint]]
    oracle: CurvePoint | None
    static: bool
    full: bool
    answers: SavedAnswers | None = None
    classes: tuple[str, ...] | None = None
    positive: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)
    several: bool = False

    @property
    def metric_name(self) -> str:
        """The metric as it is shown."""
        return metric_name(self.metric, self.positive)


def find_runs(entry: str, skip_unfinished: bool = False) -> list[Path]:
    """Return the run directories that an entry of ``runs`` names: itself, the ones below it, or those that match it.
    Raise ``ValueError`` when there are none, or one has no results."""
    path = Path(entry).expanduser()
    if path.is_dir():
        places = [path]
    else:
        root = Path(path.anchor)
        places = sorted(root.glob(str(path.relative_to(root))))
    if not places:
        raise ValueError(f"runs: there is nothing at {entry}")
    found = [run for place in places for run in _below(place)]
    if not found:
        raise ValueError(f"runs: {entry} holds no run; give run directories, or a folder that holds some")
    finished = [run for run in found if (run / RESULTS).is_file()]
    for run in found:
        if run not in finished and not skip_unfinished:
            raise ValueError(f"runs: {run} has no results yet; let it finish, or add unfinished=skip")
    return finished


def _below(place: Path) -> list[Path]:
    """Return the runs at or below a folder, in order, without runs inside a run."""
    found = []
    for folder, inner, files in os.walk(place):
        inner.sort()
        if RESULTS in files or (Path(folder) / MARKER).is_file():
            found.append(Path(folder))
            inner.clear()
    return found


def read_run(path: Path) -> RunResult:
    """All that a report needs of a run; ``ValueError`` names the file that does not fit."""
    metrics = read_json(path / RESULTS)
    marker = path / MARKER
    config = (read_json(marker) if marker.is_file() else {}).get("config") or {}
    _check_names(f"{path / RESULTS}: ", metrics)
    try:
        return _result(path, metrics, config)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path / RESULTS} is not a run's: {type(error).__name__} at {error}") from error


def _check_names(file: str, metrics: Mapping[str, Any]) -> None:
    """Check the task's name, after which figures are called, and the metric's, which is computed again."""
    check_plain_name(f"{file}task", str(metrics.get("task", CUSTOM)))
    metric = one_line(metrics.get("metric", KNOWN_METRICS[0]))
    if metric not in KNOWN_METRICS:
        raise ValueError(f"{file}metric={metric[:60]} is unknown; it must be one of: {', '.join(KNOWN_METRICS)}")


def _result(path: Path, metrics: Mapping[str, Any], config: Mapping[str, Any]) -> RunResult:
    rungs, oracle, routed = metrics["rungs"], metrics.get("oracle"), metrics["routed"]
    method, dense = str(metrics.get("method", path.name)), float(metrics["dense_macs"])
    if not 0 < dense < math.inf:
        raise ValueError(f"dense_macs={dense}")
    classes = (config.get("task") or {}).get("labels")
    if classes is not None and (not isinstance(classes, list) or len(classes) < 2):
        raise ValueError(f"task.labels={classes}")
    own = CurvePoint("trained", float(routed["value"]), float(routed["macs"]))
    read = _curve(path / "curve.csv", method)
    return RunResult(
        path=path,
        task=current_task(str(metrics["task"])),
        metric=str(metrics["metric"]),
        method=one_line(method),
        encoder=one_line(metrics.get("encoder", "")),
        seed=int(metrics.get("seed", 0)),
        dense_macs=dense,
        routed=own,
        curves=read or _from_metrics(own, rungs),
        oracle=_oracle(oracle, dense),
        static=len(rungs) == 1,
        # Not by the method's name: one rung may also be one exit, or skip tokens.
        full=len(rungs) == 1 and rungs[0]["width"] == 1 and routed["macs"] > _WHOLE * dense,
        answers=read_answers(path / "predictions.tsv"),
        classes=tuple(classes) if classes else None,
        positive=str(classes[1]) if classes else _text(metrics.get("positive")),
        settings=_flat(config),
        several=metrics["metric"] in _OF_LABELS or bool((config.get("task") or {}).get("multi_label")),
        timings=[dict(row) for file in sorted(path.glob("**/bench.json")) for row in read_json(file).get("rows", [])],
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _oracle(oracle: Any, dense: float) -> CurvePoint | None:
    if not oracle or oracle["value"] is None:  # of a regression
        return None
    return CurvePoint("oracle", float(oracle["value"]), float(oracle.get("macs", oracle["macs_fraction"] * dense)))


def _from_metrics(own: CurvePoint, rungs: Any) -> dict[str, list[CurvePoint]]:
    widths = [CurvePoint(f"width {r['width']:g}", float(r["value"]), float(r["macs"])) for r in rungs]
    return {OWN: [own]} if len(widths) == 1 else {OWN: [own], "width": widths}


def _curve(path: Path, method: str) -> dict[str, list[CurvePoint]]:
    """Return the points by control; empty without the file. Raise ``ValueError`` naming a row that does not fit."""
    if not path.is_file():
        return {}
    found: dict[str, list[CurvePoint]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                control = row["method"].removeprefix(method).removeprefix("/")
                point = CurvePoint(one_line(row["point"]), float(row["value"]), float(row["macs"]))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: not a point of a curve ({error})") from error
            found.setdefault(control, []).append(point)
    return found


def read_answers(path: Path) -> SavedAnswers | None:
    """Read the file's answers; return None where it is missing or its labels are hidden."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    rows = []
    with path.open(newline="", encoding="utf-8") as file, cells_of_any_size():
        for row in csv.DictReader(file, delimiter="\t"):
            rows.append((row["uid"], row["label"], row["prediction"]))
            # The names of the texts' columns depend on the source.
            texts = [cell for name, cell in row.items() if name not in PREDICTION_COLUMNS]
            digest.update(json.dumps([row["uid"], row["label"], *texts]).encode() + b"\n")
    if not rows or not rows[0][1]:
        return None
    uids, labels, predictions = zip(*rows, strict=True)
    return SavedAnswers(uids, labels, predictions, digest.hexdigest())


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the config as ``{"optim.lr": "0.0001"}``, without what does not shape the result."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if prefix + key in _NOT_PART:
            continue
        below = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{key}.") if below else {one_line(prefix + key): one_line(value)}
    return found
