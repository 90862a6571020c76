"""The conversion of labels from text to class ids or scores, and the kind of task that they make."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.files import listed, short_name, shown
from sharcs_pl.data.raw import RawSplit
from sharcs_pl.data.several import check_names, label_counts, label_matrix
from sharcs_pl.data.spec import METRICS_BY_KIND, NUM_DEFAULT_METRICS, UNKNOWN_LABEL, Examples, TaskSpec, kind_of

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?")  # 007 is a name, not a number
_WHOLE_DIGITS = 18  # of the largest whole number that is recognised in every spelling
_FEW_VALUES = 20  # so few whole numbers in decimal spelling may be classes
_MOSTLY = 0.9  # this share of numbers makes the rest look like mistakes
_MANY_CLASSES = 100
_NAMED = 6  # classes named in a note
_LOPSIDED = 0.75
_LARGEST_SCORE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Target:
    """The target of a task, `labels` (a class per id) or a score in `label_range`; `strict` refuses scores outside;
    `several`: a text has any number of the labels."""

    labels: tuple[str, ...] | None
    label_range: tuple[float, float] | None = None
    strict: bool = False
    several: bool = False


def find_target(train: RawSplit, column: str) -> Target:
    """Find the target, a score for decimal labels and classes otherwise. Raise `ValueError` if neither is plausible.

    Whole numbers written as decimals (`1.0`) are classes if they are few and repeated. A `DataWarning` then tells how
    to make them a score.
    """
    assert train.labels is not None
    counts = Counter(train.labels)
    if train.classes:
        return Target(_at_least_two(train.classes, train, column))
    numbers = {label for label in counts if _NUMBER.fullmatch(label)}
    share = sum(counts[label] for label in numbers) / len(train.labels)
    if share <= _MOSTLY or all(map(_INTEGER.fullmatch, numbers)):
        return Target(_classes(_united(counts), train, column))
    if share < 1:
        at, label = next((at, label) for at, label in enumerate(train.labels) if label not in numbers)
        raise ValueError(
            f"{train.places[at]}: label {shown(label)} is no number, most others are; correct it, or list the classes "
            "in task.labels"
        )
    return _whole_classes(counts, column) or Target(None, _range(train, column))


def find_labels(train: RawSplit, columns: Sequence[str]) -> Target:
    """Find the labels of which a text has any number: those that the data declares, those that have a column each, or
    the names in one column. Raise `ValueError` if they are hardly labels."""
    assert train.labels is not None
    if len(columns) > 1:
        return Target(tuple(columns), several=True)
    if train.classes:
        return Target(_at_least_two(train.classes, train, columns[0]), several=True)
    counts = _united(Counter(name for names in train.labels for name in names))
    check_names(counts, len(train.labels), train.name, columns[0], _MANY_CLASSES)
    return Target(_in_order(counts), several=True)


def whole_number(label: str) -> int | None:
    """Return the whole number that a label spells (`1`, `1.0`, `1.`, `1e0`), or None if there is none, or a leading
    zero."""
    if not _WHOLE.fullmatch(label):
        return None
    value = Decimal(label)
    return int(value) if value.adjusted() < _WHOLE_DIGITS and value == value.to_integral_value() else None


def same_label(label: str) -> int | str:
    """Return a value that is equal for all spellings of a label: `1` and `1.0`, `true` and `True`."""
    whole = whole_number(label)
    if whole is not None:
        return whole
    return label.lower() if label.lower() in ("true", "false") else label


def _united(counts: Counter[str]) -> Counter[str]:
    """Return the counts with `1.0` counted as `1` if both occur."""
    found: Counter[str] = Counter()
    for label, count in counts.items():
        whole = whole_number(label)
        name = label if whole is None or str(whole) not in counts else str(whole)
        found[name] += count
    return found


def _whole_classes(counts: Counter[str], column: str) -> Target | None:
    """Return decimals that are all whole numbers as classes, or None if they are a score."""
    values = {whole_number(label) for label in counts}
    whole = sorted(value for value in values if value is not None)
    rows = counts.total()
    if len(whole) < len(values) or not 2 <= len(whole) < rows:
        return None
    start = f"task.label={column}: the whole numbers {listed(sorted(counts, key=Decimal), 40)}"
    # Two values are hardly a score. A few more are classes if each of them occurs again.
    if len(whole) > 2 and (len(whole) > _FEW_VALUES or rows < 2 * len(whole)):
        _say(f"{start} in {rows:,} rows are read as a score; task.labels=[…] would make them classes")
        return None
    names, limits = listed(map(str, whole), 40), f"[{whole[0]},{whole[-1]}]"
    _say(f"{start} are read as the classes {names}; task.label_range={limits} would make them a score")
    return Target(tuple(map(str, whole)))


def _say(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=4)


def _classes(counts: Counter[str], train: RawSplit, column: str) -> tuple[str, ...]:
    _at_least_two(tuple(counts), train, column)
    if len(counts) > max(_MANY_CLASSES, counts.total() / 2):
        raise ValueError(
            f"task.label={column}: {len(counts):,} classes in {counts.total():,} rows of {train.name}; is it the right "
            "column? If it is, list them in task.labels"
        )
    return _in_order(counts)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in the order of their ids: integers by value, others by alphabet."""
    known = tuple(names)
    if all(map(_INTEGER.fullmatch, known)):
        return tuple(sorted(known, key=lambda label: (Decimal(label), label)))  # int takes 4,300 digits at most
    return tuple(sorted(known))


def _at_least_two(classes: tuple[str, ...], train: RawSplit, column: str) -> tuple[str, ...]:
    if len(classes) < 2:
        raise ValueError(f"{train.name}: every {shown(column)} is {listed(classes)}; two classes are needed")
    return classes


def _range(train: RawSplit, column: str) -> tuple[float, float]:
    assert train.labels is not None
    scores = [_score(place, label, Target(None)) for place, label in zip(train.places, train.labels, strict=True)]
    low, high = min(scores), max(scores)
    if low == high:
        raise ValueError(f"{train.name}: every {shown(column)} is {low:g}; there is nothing to learn")
    return low, high


def label_array(raw: RawSplit, target: Target) -> np.ndarray:
    """Return int64 class ids or float32 scores [S], of several labels float32 [S, C] of 0 and 1; all `UNKNOWN_LABEL`
    for a split without labels.

    Another spelling of a class (`1.0` for `1`, `True` for `true`) counts as the class.
    """
    dtype = np.float32 if target.labels is None or target.several else np.int64
    if raw.labels is None:
        several = (len(target.labels),) if target.labels is not None and target.several else ()
        return np.full((len(raw.places), *several), UNKNOWN_LABEL, dtype)
    pairs = zip(raw.places, raw.labels, strict=True)
    if target.labels is None:
        return np.array([_score(place, label, target) for place, label in pairs], dtype)
    ids = {label: index for index, label in enumerate(target.labels)}
    if target.several:
        ids |= _respelt({name for names in raw.labels for name in names} - set(ids), target.labels)
        return label_matrix(raw.places, raw.labels, ids, len(target.labels))
    ids |= _respelt(set(raw.labels) - set(ids), target.labels)
    return np.array(
        [ids[label] if label in ids else _stranger(place, label, target.labels) for place, label in pairs], dtype
    )


def _respelt(labels: set[str], classes: tuple[str, ...]) -> dict[str, int]:
    """Return the class ids of the labels that are other spellings of a class."""
    ids = {same_label(name): index for index, name in reversed(tuple(enumerate(classes)))}
    return {label: ids[same_label(label)] for label in labels if same_label(label) in ids}


def _stranger(place: str, label: str, classes: Sequence[str]) -> int:
    raise ValueError(f"{place}: label {shown(label)} is none of the classes {listed(classes)}")


def _score(place: str, label: str, target: Target) -> float:
    value = float(label) if _NUMBER.fullmatch(label) else math.nan
    low, high = target.label_range if target.strict and target.label_range else (-_LARGEST_SCORE, _LARGEST_SCORE)
    if not low <= value <= high:
        limits = f"number from {low:g} to {high:g} (task.label_range)" if target.strict else "finite number"
        raise ValueError(f"{place}: score {shown(label)} is no {limits}")
    return value


def put_positive(target: Target, positive: str | None) -> Target:
    """Return the target with the positive class of f1 at id 1. Raise `ValueError` naming `task.positive`."""
    if positive is None:
        return target
    start = f"task.positive={short_name(positive)}"
    if target.several:
        raise ValueError(f"{start}: f1 of one class is no metric of several labels; leave it out")
    if target.labels is None:
        raise ValueError(f"{start}: a score has no positive class; leave it out, or list two classes in task.labels")
    if len(target.labels) != 2:
        raise ValueError(f"{start}: f1 has a positive class where there are two, here are {len(target.labels)}")
    ids = {name: index for index, name in enumerate(target.labels)}
    ids |= _respelt({positive} - set(ids), target.labels)
    if positive not in ids:
        raise ValueError(f"{start} is none of the classes {listed(target.labels)}")
    return target if ids[positive] == 1 else replace(target, labels=target.labels[::-1])


def choose_metrics(
    asked: Sequence[str] | None, labels: tuple[str, ...] | None, several: bool = False
) -> tuple[str, ...]:
    """Return the requested metrics or the defaults for this kind of task. Raise `ValueError` naming `task.metrics`."""
    kind = kind_of(labels, several)
    fitting = METRICS_BY_KIND[kind]
    if asked is None:
        return fitting[:NUM_DEFAULT_METRICS]
    strangers = [name for name in asked if name not in fitting]
    if strangers or not asked or len(set(asked)) < len(asked):
        fault = f"{shown(strangers[0])} does not fit" if strangers else "name one or more, each once, for"
        kinds = kind if labels is None or several else f"{len(labels)} classes"
        raise ValueError(f"task.metrics=[{listed(asked)}]: {fault} {kinds}; there are {', '.join(fitting)}")
    return tuple(asked)


def class_shares(examples: Examples, spec: TaskSpec) -> list[tuple[str, int]]:
    """Return the labelled samples per class or label, the largest class first, an empty list for a regression."""
    if spec.labels is None:
        return []
    counts = label_counts(examples.labels, len(spec.labels))
    return sorted(zip(spec.labels, counts, strict=True), key=lambda pair: -pair[1])


def imbalance_note(examples: Examples, spec: TaskSpec) -> str | None:
    """Return a line with the share of each class and the score of a constant answer, or None without classes."""
    shares = class_shares(examples, spec)
    total = len(examples) if spec.multi_label else sum(count for _, count in shares)
    if not total:
        return None
    named = ", ".join(
        f"{short_name(name, 24)} {count:,} ({_percent(count / total)})" for name, count in shares[:_NAMED]
    )
    more = f" and {len(shares) - _NAMED:,} more" if len(shares) > _NAMED else ""
    if spec.multi_label:
        bare = int((examples.labels <= 0).all(1).sum())
        return f"labels: {named}{more}; {bare:,} texts ({_percent(bare / total)}) have none"
    return f"classes: {named}{more}{_constant_answer(shares, total, spec)}"


def _constant_answer(shares: list[tuple[str, int]], total: int, spec: TaskSpec) -> str:
    largest, count = shares[0]
    if count <= _LOPSIDED * total or "accuracy" not in spec.metrics:
        return ""
    # f1 scores class 1. If this is the large class, f1 rates a constant answer even higher than accuracy.
    small_one = spec.labels is not None and len(spec.labels) == 2 and largest == spec.labels[0]
    other = "f1 or macro_f1" if small_one else "macro_f1"
    return f"; a constant answer scores {count / total:.2f}: look at {other} too"


def _percent(share: float) -> str:
    whole = round(100 * share)
    return f"{whole}%" if 1 <= whole <= 99 or share in (0, 1) else ("<1%" if whole == 0 else ">99%")
