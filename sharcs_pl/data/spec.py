"""Specifications of tasks, samples of a split, and the metrics for each kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sharcs_pl.core.kinds import Kind, task_kind
from sharcs_pl.data.shown import short_name

UNKNOWN_LABEL = -1  # of a test split without labels

GLUE_FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}

# The first ones of each kind are the default.
METRICS_BY_KIND = {
    "two classes": ("accuracy", "f1", "macro_f1", "matthews"),
    "more classes": ("accuracy", "macro_f1", "matthews"),
    "regression": ("pearson", "spearman"),
    "several labels": ("micro_f1", "macro_f1", "exact_match", "hamming"),
}
NUM_DEFAULT_METRICS = 2


@dataclass(frozen=True)
class TaskSpec:
    """The specification of a task and of its files.

    `text_columns` (one or two) and `label_column`: names of columns in the files. `labels`: the class name of each id,
    None for regression. `label_range`: lowest and highest score of a regression. `metrics`: GLUE metrics of the task,
    the main one first. `counts`: official rows per split. `files`: file per split. `validation`: the splits that
    evaluate the task. `file_labels`: the labels in the files, None if they are ids. `headerless`: the columns of train
    and validation files without a header. `skip_short`: skip the broken rows of the official files, as all published
    counts do. `allow_empty`: accept empty texts. `hub_columns`: names of the text columns on the hub if they differ.
    `hub_splits`: configuration and split on the hub if they are not the names of the task and the split. `multi_label`:
    a text has any number of the labels.
    """

    name: str
    text_columns: tuple[str, ...]
    label_column: str = "label"
    labels: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    label_range: tuple[float, float] | None = None
    folder: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=lambda: GLUE_FILES)
    validation: tuple[str, ...] = ("validation",)
    file_labels: tuple[str, ...] | None = None
    headerless: tuple[str, ...] | None = None
    skip_short: bool = False
    allow_empty: bool = False
    hub_columns: tuple[str, ...] | None = None
    hub_splits: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    multi_label: bool = False

    @property
    def num_labels(self) -> int:
        """The number of outputs of a model, 1 for regression."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def kind(self) -> Kind:
        """The kind of the task."""
        return task_kind(self.num_labels, self.multi_label)

    @property
    def metric(self) -> str:
        return self.metrics[0]

    @property
    def positive(self) -> str | None:
        """The positive class of f1, id 1 of two, or None if f1 is not a metric of the task."""
        return self.labels[1] if self.labels is not None and "f1" in self.metrics else None


def metric_name(metric: str, positive: str | None) -> str:
    """Return the displayed name of a metric; f1 is named with its positive class if known."""
    return f"f1 of {short_name(positive)}" if metric == "f1" and positive is not None else metric


def kind_of(labels: tuple[str, ...] | None, multi_label: bool = False) -> str:
    """Return the kind of a task, a key of `METRICS_BY_KIND`. `labels` is None for regression."""
    if labels is None:
        return "regression"
    if multi_label:
        return "several labels"
    return "two classes" if len(labels) == 2 else "more classes"


@dataclass(frozen=True, eq=False)
class Examples:
    """The samples of a split in memory. A sample's uid is its position.

    `texts`: one or two texts per sample. `labels`: int64 class ids or float32 scores, [S]; of several
    labels float32 [S, C], 1 for each that a text has. `difficulty`: int8 [S],
    None if unknown.
    """

    texts: list[tuple[str, ...]]
    labels: np.ndarray
    difficulty: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: np.ndarray) -> Examples:
        """Return the samples at some positions, int [n]."""
        difficulty = None if self.difficulty is None else self.difficulty[rows]
        return Examples([self.texts[row] for row in rows], self.labels[rows], difficulty)
