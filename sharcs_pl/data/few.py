"""A note on splits with too few rows to learn from or to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sharcs_pl.data.files import listed, short_name
from sharcs_pl.data.several import label_counts
from sharcs_pl.data.spec import Examples, TaskSpec

_FEW = 10  # rows of train and dev together


def few_rows_note(train: Examples, dev: Examples, spec: TaskSpec, share: float | None = None) -> str | None:
    """Return a note on classes with no row or a single one to train or evaluate on, or None if there are enough.

    `share`: the requested share of the rows for dev, if dev was split off train.
    """
    parts = []
    if len(train) + len(dev) < _FEW:
        parts.append(f"{_rows(len(train))} to train on and {_rows(len(dev))} to evaluate on")
    classes = spec.labels
    parts += _about_scores(dev) if classes is None else _about_classes(train, dev, classes, share)
    return f"few rows: {'; '.join(parts)}" if parts else None


def _about_scores(dev: Examples) -> list[str]:
    if len(dev) == 1:
        return ["1 row of dev has no correlation"]
    if np.ptp(dev.labels) == 0:
        return [f"{_rows(len(dev))} of dev, all of one score, have no correlation"]
    return ["2 rows of dev always correlate with 1, 0 or -1"] if len(dev) == 2 else []


def _about_classes(train: Examples, dev: Examples, labels: tuple[str, ...], share: float | None) -> list[str]:
    learned, told = (label_counts(part.labels, len(labels)) for part in (train, dev))
    unlearned = [name for name, count in zip(labels, learned, strict=True) if not count]
    untold = {name: n for name, n, other in zip(labels, learned, told, strict=True) if n and not other}
    single = [name for name, n, other in zip(labels, learned, told, strict=True) if n == other == 1]
    parts = []
    if untold:
        names = listed(f"{short_name(name)} ({_rows(count)})" for name, count in untold.items())
        parts.append(f"dev has none of {_classes(untold)} {names}, which cannot be evaluated")
    if unlearned:
        parts.append(f"train has none of {_classes(unlearned)} {listed(unlearned)}, which cannot be learned")
    if single:
        parts.append(f"one to train on and one to evaluate on of {_classes(single)} {listed(single)}")
    asked = round((share or 0) * (len(train) + len(dev)))
    stratified = train.labels.ndim == 1
    if stratified and share is not None and asked < len(dev) == sum(map(bool, told)):
        parts.append(f"task.dev={share:g} is {_rows(asked)}, but every class gives one: {len(dev)}")
    return parts


def _classes(names: Sequence[str] | dict[str, int]) -> str:
    return "class" if len(names) == 1 else f"{len(names)} classes:"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
