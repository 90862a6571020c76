"""The group ``task``, the classification or regression task and its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sharcs_pl.config.checks import check_text_files, in_range
from sharcs_pl.config.texts import COLUMN, COLUMNS, PATH, PATH_OR_NUMBER, TEXT, TEXTS
from sharcs_pl.core.renamed import CUSTOM, current_task


@dataclass
class TaskConfig:
    """The classification or regression task and its data."""

    name: str = MISSING
    """``graded`` (embedded, the default), a GLUE task (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli), or
    ``custom``."""
    data_dir: str | None = field(default=None, metadata=PATH)
    """Folder with a GLUE task's ``train.tsv`` and ``dev.tsv`` (or the GLUE folder above it); null: the hub."""
    max_length: int = 128
    """Longest input in tokens, with special tokens; longer ones are truncated."""
    max_train_samples: int | None = None
    """Number of training samples, drawn with the seed; null takes all."""
    train_size: int = 8000
    """Sentences in the training split (``graded`` only)."""
    dev_size: int = 2000
    """Sentences in the validation split (``graded`` only)."""
    train: str | None = field(default=None, metadata=PATH)
    """Custom data: training file (.csv, .tsv, .jsonl, .json, .parquet, .xlsx; text files also with .gz, .bz2, .xz or
    .zst), or the name of the split with ``hub``."""
    dev: Any = field(default=None, metadata=PATH_OR_NUMBER)
    """Custom data: file to evaluate on, or a share such as 0.1 split off ``train``, stratified and seeded."""
    split_seed: int = 1
    """Seed of the shares ``dev`` and ``calibration``, and of the sentences of ``graded``. It does not follow ``seed``,
    so that runs with several seeds are evaluated on the same texts."""
    calibration: Any = field(default=None, metadata=PATH_OR_NUMBER)
    """Share such as 0.1 of the rest of ``train`` after ``dev``, kept for ``sharcs calibrate``; these texts neither
    train nor choose the epoch. Custom data: a share or a file."""
    test: str | None = field(default=None, metadata=PATH)
    """Custom data: file to predict; its label may be missing, or empty in every row."""
    text: Any = field(default=None, metadata=COLUMNS)
    """Custom data: text column, or a list of two."""
    label: Any = field(default=None, metadata=COLUMN)
    """Custom data: label column; decimal numbers make it a regression, unless they are few whole ones such as 1.0. A
    list of two or more columns of 0 and 1 gives a text any number of labels, one per column."""
    multi_label: bool = False
    """Custom data: a text has any number of labels. In one column they are a list (JSON, parquet) or names between
    ``label_separator``; a list of columns as ``label`` implies it."""
    label_separator: str | None = field(default=None, metadata=TEXT)
    """Custom data, ``multi_label``: text between the names in a cell, such as "," or "|"."""
    labels: list[Any] | None = field(default=None, metadata=TEXTS)
    """Custom data: classes in the order of their ids; null finds them in ``train``."""
    label_range: list[float] | None = None
    """Custom data: lowest and highest score of a regression; null finds them in ``train``."""
    label_range_strict: bool = True
    """Custom data: refuse scores outside of ``label_range``; false in a run that found its range in ``train``."""
    positive: str | None = field(default=None, metadata=TEXT)
    """Custom data: positive class of f1 for two classes, which gets the id 1; null: the second."""
    metrics: list[str] | None = None
    """Custom data: metrics, the main one first (accuracy, f1, macro_f1, matthews, pearson, spearman; of several labels
    micro_f1, macro_f1, exact_match, hamming); null chooses."""
    hub: str | None = field(default=None, metadata=PATH)
    """Custom data: id of a dataset on the Hugging Face hub, or a local dataset folder."""
    hub_config: str | None = field(default=None, metadata=TEXT)
    """Custom data: configuration of the hub dataset."""
    quoting: str = "standard"
    """Custom data: ``standard`` CSV quotes, or ``none``, where a quote is a plain character, as in GLUE's files."""
    delimiter: str | None = field(default=None, metadata=TEXT)
    """Custom data: delimiter of CSV and TSV, ``comma``, ``semicolon``, ``tab``, ``pipe`` or a character; null finds it
    in the header."""
    encoding: str | None = field(default=None, metadata=TEXT)
    """Custom data: encoding of text files without a byte-order mark, such as ``cp1252`` or ``latin-1``; null: UTF-8."""
    save_as: str | None = field(default=None, metadata=TEXT)
    """Custom data: write the keys of ``task`` to ``conf/task/<save_as>.yaml``, for later use as ``task=<save_as>``."""

    def __post_init__(self) -> None:
        self.name = current_task(self.name)
        in_range("task.max_length", self.max_length, 4, 65536)
        in_range("task.train_size", self.train_size, 1)
        in_range("task.dev_size", self.dev_size, 1)
        in_range("task.split_seed", self.split_seed, 0, 2**32 - 1)
        in_range("task.max_train_samples", self.max_train_samples, 1)
        check_text_files("task.", self)
        self.label = _column_text(self.label)
        kept = self.calibration
        if isinstance(kept, int | float) and (isinstance(kept, bool) or not 0 < kept < 1):
            raise ValueError(f"task.calibration={kept} is no share between 0 and 1, such as 0.1")
        self._check_custom() if self.is_custom else self._check_built_in()

    @property
    def is_custom(self) -> bool:
        """True if the data is the user's own."""
        return self.name == CUSTOM or self.text is not None or self.label is not None

    @property
    def is_drawn(self) -> bool:
        """True if ``split_seed`` affects the validation or calibration texts."""
        return self.name == "graded" or any(isinstance(share, int | float) for share in (self.dev, self.calibration))

    @property
    def text_columns(self) -> list[str]:
        """The text column or columns of custom data."""
        return list(self.text) if isinstance(self.text, list) else [self.text]

    @property
    def label_columns(self) -> list[str]:
        """The label column or columns of custom data."""
        return list(self.label) if isinstance(self.label, list) else [self.label]

    def _check_several(self) -> None:
        if isinstance(self.label, list):
            if len(self.label) < 2 or not all(isinstance(name, str) for name in self.label):
                raise ValueError(f"task.label={self.label} must name one column, or two or more columns of 0 and 1")
            self.multi_label = True
            if self.labels is not None and [*map(_label_text, self.labels)] != self.label:
                raise ValueError("task.labels: the columns of task.label are the labels; leave it out")
        if self.label_separator is not None and (not self.multi_label or isinstance(self.label, list)):
            raise ValueError("task.label_separator divides the names in one label column; add task.multi_label=true")
        for key in ("label_range", "positive"):
            if self.multi_label and getattr(self, key) is not None:
                raise ValueError(f"task.{key} does not fit several labels (task.multi_label); leave it out")
        # A test file may lack the labels.
        files = [value for key in ("train", "dev", "calibration") if isinstance(value := getattr(self, key), str)]
        flat = next((name for name in files if self.hub is None and name.lower().endswith(_ALL_TEXT)), None)
        if flat and self.multi_label and isinstance(self.label, str) and self.label_separator is None:
            raise ValueError(
                f"task.label_separator is missing: the cells of {flat} hold texts; give what stands between the names "
                "of the labels, such as task.label_separator=','"
            )

    def _check_built_in(self) -> None:
        for key in (*CUSTOM_PATHS, *_CUSTOM_ONLY, "multi_label"):
            if getattr(self, key) not in (None, False):
                raise ValueError(f"task.{key} describes custom data, task={self.name} has its own; add task=custom")
        if not isinstance(self.calibration, int | float | None):
            raise ValueError(
                f"task.calibration={self.calibration} is no share of train, such as 0.1; task={self.name} takes no file"
            )

    def _check_custom(self) -> None:
        for key, example in (("text", "review, or [question,answer]"), ("label", "stars")):
            if getattr(self, key) is None:
                raise ValueError(f"task.{key} is missing; name the column, such as task.{key}={example}")
        columns = self.text_columns
        if not 1 <= len(columns) <= 2 or not all(isinstance(name, str) and name for name in columns):
            raise ValueError(f"task.text={self.text} must name one text column, or two: task.text=[question,answer]")
        labels = self.label_columns
        if not all(labels) or len({*labels, *columns}) < len(labels) + len(columns):
            raise ValueError(f"task.text={self.text} and task.label={self.label} must name different columns")
        self._check_several()
        for key in (*CUSTOM_PATHS, "calibration"):
            value = getattr(self, key)
            share = key in ("dev", "calibration") and isinstance(value, int | float) and not isinstance(value, bool)
            if share and not 0 < value < 1:
                raise ValueError(f"task.dev={value} is no share between 0 and 1, such as 0.1, and no file")
            if not share and not isinstance(value, str | None):
                raise ValueError(f"task.{key}={value} is no file")
        if self.labels is not None:
            self.labels = [_label_text(label) for label in self.labels]
            if len(set(self.labels)) < max(2, len(self.labels)):
                raise ValueError(f"task.labels={self.labels} must list two classes or more, each once")
        if self.label_range is not None and (len(self.label_range) != 2 or self.label_range[0] >= self.label_range[1]):
            raise ValueError(f"task.label_range={self.label_range} must be [least, greatest]")
        if self.labels is not None and self.label_range is not None:
            raise ValueError("task.labels (classes) and task.label_range (a score) exclude each other; give one")


CUSTOM_PATHS = ("train", "dev", "test")
_CUSTOM_ONLY = (
    "labels", "label_range", "positive", "metrics", "hub", "hub_config", "delimiter", "encoding", "save_as",
    "label_separator",
)  # fmt: skip


_ALL_TEXT = (".csv", ".tsv", ".xlsx")


def _column_text(label: Any) -> Any:
    """Return the key ``task.label`` with its columns as texts, since yaml reads 2024 as a number."""
    if isinstance(label, list):
        return [None if name is None else _label_text(name) for name in label]
    return None if label is None else _label_text(label)


def _label_text(label: Any) -> str:
    """Return a class as a text, since yaml reads 1 and true as other types."""
    return str(label).lower() if isinstance(label, bool) else str(label)
