"""The user's own task, with texts and labels from files or a hub dataset, as a row of the table of tasks."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.files import write_text
from sharcs_pl.core.literal import literal
from sharcs_pl.core.renamed import CUSTOM, EARLIER_TASKS
from sharcs_pl.data.files import Request, check_file, listed, shown
from sharcs_pl.data.labels import (
    Target,
    choose_metrics,
    find_labels,
    find_target,
    label_array,
    put_positive,
    same_label,
)
from sharcs_pl.data.raw import LabelCells, RawSplit, read_file, read_hub
from sharcs_pl.data.shares import take_share
from sharcs_pl.data.spec import Examples, TaskSpec
from sharcs_pl.data.tasks import GLUE, GRADED

__all__ = ["OwnSource", "check_own", "load_own", "save_task"]

SPLITS = {"train": "train", "validation": "dev", "calibration": "calibration", "test": "test"}
"""The key of `task` with the path of each split."""


@dataclass(frozen=True)
class OwnSource:
    """The data of the user's own task, as given by the keys `task.*`.

    `train`, `dev` and `test` are paths, or names of splits of `hub`. `dev` may be a share in (0, 1) split off train,
    stratified and seeded. `calibration` may be a path or a share of the rest after `dev`. `text` names one or two
    columns, `label` the one to predict. `labels`: the classes in the order of their ids, None finds them in train.
    `label_range` makes the task a regression, and with `label_range_strict` scores outside are refused. `positive`: the
    positive class of f1 for two classes, which gets id 1. `hub`: the id of a dataset on the Hugging Face hub, or a
    local dataset folder. `quoting`: `standard`, or `none`, where a quote in CSV and TSV files is a plain character.
    `delimiter`: the character between their cells, None finds it in the header. `encoding`: the encoding of text files
    without a byte-order mark, None for UTF-8. `multi_label`: a text has any number of labels, in one column as a list
    or as a text of names between `label_separator`, or several columns of 0 and 1.
    """

    train: str | None
    dev: str | float | None
    test: str | None
    text: tuple[str, ...]
    label: str | tuple[str, ...]
    labels: tuple[str, ...] | None = None
    label_range: tuple[float, float] | None = None
    label_range_strict: bool = True
    positive: str | None = None
    metrics: tuple[str, ...] | None = None
    hub: str | None = None
    hub_config: str | None = None
    quoting: str = "standard"
    calibration: str | float | None = None
    delimiter: str | None = None
    encoding: str | None = None
    multi_label: bool = False
    label_separator: str | None = None
    name: str = CUSTOM

    @property
    def share(self) -> float | None:
        """The share of train that is the validation split, None if the validation split has its own file."""
        return self.dev if isinstance(self.dev, int | float) else None

    @property
    def shares(self) -> dict[str, float]:
        """The splits that are shares of train, in order. Each is a share of the rest after the previous one."""
        given = {"validation": self.dev, "calibration": self.calibration}
        return {split: share for split, share in given.items() if isinstance(share, int | float)}

    @property
    def target(self) -> Target | None:
        """The target of the task if the keys give it, None if it must be found in a file."""
        labels = self.cells.columns if self.cells.marks else self.labels
        if labels is None and self.label_range is None:
            return None
        return Target(labels, self.label_range, self.label_range_strict, self.multi_label)

    @property
    def cells(self) -> LabelCells:
        """The cells of a row's label."""
        columns = self.label if isinstance(self.label, tuple) else (self.label,)
        return LabelCells(columns, self.multi_label, self.label_separator)

    def needed(self, splits: Iterable[str]) -> list[str]:
        """Return the splits to read for the requested ones."""
        wanted = set(splits)
        if wanted & self.shares.keys():
            wanted = wanted - self.shares.keys() | {"train"}
        return [split for split in SPLITS if split in wanted or (split == "train" and self.target is None)]


def load_own(source: OwnSource, splits: Sequence[str], seed: int) -> tuple[TaskSpec, dict[str, Examples]]:
    """Return the task as a row of the table, and its requested splits ("train", "validation", "calibration", "test").

    If the validation or calibration split is a share of train, the train split is the rest. Train is also read if only
    it tells the classes. Texts of a validation file that are also in train give a `DataWarning`. Raise `ValueError`
    naming the key, or file and line.
    """
    check_own(source, splits)
    raws = {split: _read(source, split) for split in source.needed(splits)}
    target = put_positive(source.target or _found(source, raws["train"]), source.positive)
    spec = _spec(source, target)
    examples = {split: Examples(raw.texts, label_array(raw, target)) for split, raw in raws.items()}
    if "train" in examples:
        if source.share is not None:
            _check_a_class_twice(source.share, examples["train"])
        for split, share in source.shares.items():
            examples["train"], examples[split] = take_share(examples["train"], SPLITS[split], share, seed)
    if source.share is None and "train" in splits and "validation" in splits:
        _warn_of_shared_texts(examples["train"], examples["validation"])
    return spec, {split: examples[split] for split in splits}


def _found(source: OwnSource, train: RawSplit) -> Target:
    """Return the target that the training file tells."""
    columns = source.cells.columns
    return find_labels(train, columns) if source.multi_label else find_target(train, columns[0])


def check_own(source: OwnSource, splits: Sequence[str] = ("train", "validation")) -> None:
    """Raise `ValueError` naming the key unless the keys, which their config has checked one by one, suffice for these
    splits. No file is opened."""
    assert set(splits) <= set(SPLITS), splits
    _check_target(source)
    if "validation" in splits and source.dev is None:
        raise ValueError("task.dev is missing: give a file, or a share such as task.dev=0.1")
    for split in source.needed(splits):
        _check_place(source, SPLITS[split])


def _check_target(source: OwnSource) -> None:
    labels, scores = source.labels, source.label_range
    if labels is not None and (len(set(map(same_label, labels))) < len(labels) or not all(map(str.strip, labels))):
        raise ValueError(f"task.labels=[{listed(labels)}]: each class is needed once, and none may be blank")
    if scores is not None and not all(map(math.isfinite, scores)):
        raise ValueError(f"task.label_range=[{scores[0]:g}, {scores[1]:g}]: both scores must be finite")
    if source.target is not None:
        choose_metrics(source.metrics, source.target.labels, source.multi_label)
        put_positive(source.target, source.positive)


def _check_place(source: OwnSource, key: str) -> None:
    value = getattr(source, key)
    if value is None:
        where = "name a split of task.hub" if source.hub else "give a file"
        unknown = key == "train" and source.target is None
        reason = "; the classes are found in it, where task.labels does not list them" if unknown else ""
        raise ValueError(f"task.{key} is missing: {where}{reason}")
    if source.hub is None:
        check_file(f"task.{key}", value)


def _spec(source: OwnSource, target: Target) -> TaskSpec:
    return TaskSpec(
        name=source.name,
        text_columns=source.text,
        label_column=source.cells.columns[0],
        labels=target.labels,
        metrics=choose_metrics(source.metrics, target.labels, target.several),
        label_range=target.label_range,
        files={},
        multi_label=target.several,
    )


def _read(source: OwnSource, split: str) -> RawSplit:
    # A test split may have no labels.
    cells = source.cells
    columns, optional = (source.text, cells.columns) if split == "test" else ((*source.text, *cells.columns), ())
    lists = cells.columns if cells.listed else ()
    request = Request(columns, optional, source.quoting, source.delimiter, source.encoding, lists=lists)
    value = getattr(source, SPLITS[split])
    if source.hub is not None:
        return read_hub(source.hub, source.hub_config, value, request, cells)
    return read_file(check_file(f"task.{SPLITS[split]}", value), request, cells)


def _check_a_class_twice(share: float, examples: Examples) -> None:
    """Raise `ValueError` if no class has two rows, because the only row of a class is always trained on."""
    if examples.labels.dtype.kind == "i" and np.bincount(examples.labels).max() < 2:
        rows = f"all {len(examples):,} rows are of different classes"
        raise ValueError(f"task.dev={share:g}: {rows}, which leaves none to evaluate on; give a file as task.dev")


def _warn_of_shared_texts(train: Examples, dev: Examples) -> None:
    known = set(train.texts)
    count = sum(texts in known for texts in dev.texts)
    if count:
        warnings.warn(f"{count:,} of {len(dev):,} dev texts are also in train", DataWarning, stacklevel=3)


def save_task(config: Mapping[str, Any], name: str, folder: Path) -> Path:
    """Write the keys of `OwnSource` that are set in `config` to `task/<name>.yaml` below `folder`, for later use as
    `task=<name>`. Paths become absolute. A file with other contents is not replaced."""
    from omegaconf import OmegaConf

    _check_name(name)
    given = [field for field in fields(OwnSource) if field.name != "name" and config.get(field.name) is not None]
    keys = [field.name for field in given if config[field.name] != field.default]
    values = {"name": name} | {key: _saved(config, key) for key in keys}
    path, text = folder / "task" / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(literal(values)))
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"task.save_as={name}: {path} is there and holds something else; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"task.save_as={shown(name)}: only letters, digits, _ and - make a name")
    if name in {*GLUE, GRADED.name, CUSTOM, *EARLIER_TASKS}:
        raise ValueError(f"task.save_as={name} is the name of a built-in task; choose another")


def _saved(config: Mapping[str, Any], key: str) -> Any:
    value = config[key]
    local = key == "hub" and os.path.isdir(Path(value).expanduser())
    if local or (key in SPLITS.values() and isinstance(value, str) and config.get("hub") is None):
        return str(Path(value).expanduser().absolute())
    return list(value) if isinstance(value, tuple) else value
