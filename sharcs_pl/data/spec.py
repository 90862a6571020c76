"""What a task and one of its splits are, and which metrics fit which kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sharcs_pl.data.shown import one_line

UNKNOWN_LABEL = -1  # of a test split that keeps its labels to itself

GLUE_FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}

# The first of each kind are the default.
METRICS_BY_KIND = {
    "two classes": ("accuracy", "f1", "macro_f1", "matthews"),
    "more classes": ("accuracy", "macro_f1", "matthews"),
    "regression": ("pearson", "spearman"),
}
NUM_DEFAULT_METRICS = 2


@dataclass(frozen=True)
class TaskSpec:
    """What a task is, and where its files keep it.

    `text_columns` (one or two) and `label_column`: names in the files. `labels`: a class's name per id, None for
    regression with `label_range` as the least and the greatest score. `metrics`: the task's GLUE metrics, the first is
    the one that counts. `counts`: official rows per split. `files`: file per split; `validation`: the splits that
    evaluate the task. `file_labels`: how the files write the labels, where not as their ids. `headerless`: the columns
    of train and validation files that name none. `skip_short`: the official files have broken rows that every published
    count leaves out. `allow_empty`: they hold empty texts too. `hub_columns`: the texts' names on the hub, where they
    differ; `hub_splits`: configuration and split there, likewise.
    """

    name: str
    text_columns: tuple[str, ...]
    label_column: str
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    label_range: tuple[float, float] | None = None
    folder: str = ""
    hub_config: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=lambda: GLUE_FILES)
    validation: tuple[str, ...] = ("validation",)
    file_labels: tuple[str, ...] | None = None
    headerless: tuple[str, ...] | None = None
    skip_short: bool = False
    allow_empty: bool = False
    hub_columns: tuple[str, ...] | None = None
    hub_splits: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """A key of `METRICS_BY_KIND`."""
        return kind_of(self.labels)

    @property
    def num_labels(self) -> int:
        """Outputs of a classifier: 1 for regression."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def metric(self) -> str:
        return self.metrics[0]

    @property
    def positive(self) -> str | None:
        """The class that f1 is about, id 1 of two; None where f1 is no metric of the task."""
        return self.labels[1] if self.labels is not None and "f1" in self.metrics else None


def metric_name(metric: str, positive: str | None) -> str:
    """A metric as it is shown: f1 with the class that it is about, where that is known."""
    return f"f1 of {one_line(positive)}" if metric == "f1" and positive is not None else metric


def kind_of(labels: tuple[str, ...] | None) -> str:
    """A key of `METRICS_BY_KIND`; None stands for regression."""
    if labels is None:
        return "regression"
    return "two classes" if len(labels) == 2 else "more classes"


@dataclass(frozen=True, eq=False)
class Examples:
    """One split in memory; a sample's uid is its position.

    `texts`: one or two texts per sample; `labels` [S]: int64 class ids, or float32 scores; `difficulty` int8 [S] where
    it is planted and known.
    """

    texts: list[tuple[str, ...]]
    labels: np.ndarray
    difficulty: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)
