"""The table of built-in tasks, and the loading of their texts and labels from official files or the hub."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.hub import load_hub
from sharcs_pl.data.spec import UNKNOWN_LABEL, Examples, TaskSpec
from sharcs_pl.data.tsv import TsvFile

_MNLI_FILES = {"train": "train.tsv"} | {
    f"{split}_{kind}": f"{file}_{kind}.tsv"
    for split, file in (("validation", "dev"), ("test", "test"))
    for kind in ("matched", "mismatched")
}
_DIAGNOSTIC = "test_ax"  # GLUE's diagnostic set, which a model of MNLI predicts


_PAIR = ("sentence1", "sentence2")
_NLI = ("entailment", "not_entailment")

GLUE: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TaskSpec(
            name="cola",
            text_columns=("sentence",),
            labels=("unacceptable", "acceptable"),
            metrics=("matthews",),
            folder="CoLA",
            counts={"train": 8551, "validation": 1043, "test": 1063},
            headerless=("source", "label", "mark", "sentence"),
        ),
        TaskSpec(
            name="sst2",
            text_columns=("sentence",),
            labels=("negative", "positive"),
            folder="SST-2",
            counts={"train": 67349, "validation": 872, "test": 1821},
        ),
        TaskSpec(
            name="mrpc",
            text_columns=("#1 String", "#2 String"),
            label_column="Quality",
            labels=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            folder="MRPC",
            counts={"train": 3668, "validation": 408, "test": 1725},
            hub_columns=_PAIR,
        ),
        TaskSpec(
            name="stsb",
            text_columns=_PAIR,
            label_column="score",
            metrics=("pearson", "spearman"),
            label_range=(0.0, 5.0),
            folder="STS-B",
            counts={"train": 5749, "validation": 1500, "test": 1379},
        ),
        TaskSpec(
            name="qqp",
            text_columns=("question1", "question2"),
            label_column="is_duplicate",
            labels=("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
            folder="QQP",
            counts={"train": 363846, "validation": 40430, "test": 390965},
            skip_short=True,
            allow_empty=True,
        ),
        TaskSpec(
            name="mnli",
            text_columns=_PAIR,
            label_column="gold_label",
            labels=("entailment", "neutral", "contradiction"),
            folder="MNLI",
            counts={
                "train": 392702,
                "validation_matched": 9815,
                "validation_mismatched": 9832,
                "test_matched": 9796,
                "test_mismatched": 9847,
                _DIAGNOSTIC: 1104,
            },
            files=_MNLI_FILES | {_DIAGNOSTIC: "diagnostic.tsv"},
            hub_splits={_DIAGNOSTIC: ("ax", "test")},
            validation=("validation_matched", "validation_mismatched"),
            file_labels=("entailment", "neutral", "contradiction"),
        ),
        TaskSpec(
            name="qnli",
            text_columns=("question", "sentence"),
            labels=_NLI,
            folder="QNLI",
            counts={"train": 104743, "validation": 5463, "test": 5463},
            file_labels=_NLI,
        ),
        TaskSpec(
            name="rte",
            text_columns=_PAIR,
            labels=_NLI,
            folder="RTE",
            counts={"train": 2490, "validation": 277, "test": 3000},
            file_labels=_NLI,
        ),
        TaskSpec(
            name="wnli",
            text_columns=_PAIR,
            labels=("not_entailment", "entailment"),
            folder="WNLI",
            counts={"train": 635, "validation": 71, "test": 146},
        ),
    )
}


GRADED = TaskSpec(
    name="graded",
    text_columns=("sentence",),
    labels=("negative", "positive"),
    files={},
)


def get_task(name: str) -> TaskSpec:
    tasks = {**GLUE, GRADED.name: GRADED}
    if name not in tasks:
        raise ValueError(f"task.name={name!r} is not known; there are {', '.join(tasks)}")
    return tasks[name]


def load_examples(spec: TaskSpec, split: str, data_dir: str | Path | None = None) -> Examples:
    """Load a split from local files or, without `data_dir`, from the hub.

    `data_dir` is the folder of the task, or the folder above it. Skipped lines and a number of rows other than the
    official one give a `DataWarning`. Raise `ValueError` naming `task.data_dir` if there is nothing to load, or naming
    file and line for a malformed row.
    """
    if split not in spec.files:
        raise ValueError(f"{spec.name} has no split {split!r}; there are {', '.join(spec.files)}")
    examples = _from_hub(spec, split) if data_dir is None else _from_file(spec, split, Path(data_dir))
    official = spec.counts.get(split)
    if official is not None and len(examples) != official:
        message = f"{spec.name} {split}: {len(examples)} rows were read, the official split has {official}"
        warnings.warn(message, DataWarning, stacklevel=2)
    return examples


def subset_examples(examples: Examples, n: int, seed: int) -> Examples:
    """Return `n` random samples by seed in their old order, or all samples if there are fewer."""
    if n < 1:
        raise ValueError(f"task.max_train_samples={n}: at least 1 is needed")
    total = len(examples)
    return examples.select(np.sort(np.random.default_rng(seed).choice(total, size=min(n, total), replace=False)))


def _from_hub(spec: TaskSpec, split: str) -> Examples:
    config, hub_split = spec.hub_splits.get(split, (spec.name, split))
    rows = load_hub(config, hub_split)
    texts = zip(*(rows[column] for column in spec.hub_columns or spec.text_columns), strict=True)
    return Examples(list(texts), _label_array(spec, list(rows["label"])))


def _from_file(spec: TaskSpec, split: str, data_dir: Path) -> Examples:
    path = _find(spec, spec.files[split], data_dir.expanduser())
    file = TsvFile(path)
    hidden = split.startswith("test")
    names = None if hidden else spec.headerless
    wanted = list(spec.text_columns)
    if not hidden or spec.label_column in file.header:
        wanted.append(spec.label_column)
    texts: list[tuple[str, ...]] = []
    labels: list[float] = []
    for line, cells in file.rows(wanted, names, spec.skip_short):
        texts.append(tuple(cells[: len(spec.text_columns)]))
        place = f"{path}, line {line}"
        if not spec.allow_empty and not all(text.strip() for text in texts[-1]):
            raise ValueError(f"{place}: an empty text among {', '.join(spec.text_columns)}")
        labels.append(_label(spec, cells[-1], place) if len(cells) > len(texts[-1]) else UNKNOWN_LABEL)
    if file.left_out:
        warnings.warn(f"{path}: {file.left_out} left out", DataWarning, stacklevel=3)
    return Examples(texts, _label_array(spec, labels))


def _find(spec: TaskSpec, file: str, root: Path) -> Path:
    # The usual download has the diagnostic set in a separate folder.
    for folder in (root / spec.folder, root, root / Path(file).stem):
        if (folder / file).is_file():
            return folder / file
    raise ValueError(
        f"task.data_dir={str(root)!r} has no {file} of {spec.name}; expected the task's folder with "
        f"{', '.join(spec.files.values())}, or a folder that holds it as {spec.folder}/"
    )


def _label(spec: TaskSpec, cell: str, place: str) -> float:
    if spec.labels is None:
        return _score(spec, cell, place)
    known = spec.file_labels or tuple(map(str, range(spec.num_labels)))
    if cell not in known:
        raise ValueError(f"{place}: label {cell!r} is none of {', '.join(known)}")
    return known.index(cell)


def _score(spec: TaskSpec, cell: str, place: str) -> float:
    low, high = spec.label_range or (-math.inf, math.inf)
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{place}: score {cell!r} is no number from {low:g} to {high:g}")
    return value


def _label_array(spec: TaskSpec, labels: list[float]) -> np.ndarray:
    return np.asarray(labels, dtype=np.float32 if spec.labels is None else np.int64)
