from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.labels import (
    Target,
    choose_metrics,
    class_shares,
    find_target,
    imbalance_note,
    label_array,
    put_positive,
    whole_number,
)
from sharcs_pl.data.raw import RawSplit
from sharcs_pl.data.spec import Examples, TaskSpec


def raw(*labels: str, classes: tuple[str, ...] | None = None) -> RawSplit:
    places = [f"a.csv, line {line}" for line in range(2, len(labels) + 2)]
    return RawSplit("a.csv", places, [("x",)] * len(labels), list(labels), classes)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("b", "a", "b"), ("a", "b")),
        (("10", "9", "-1", "+2"), ("-1", "+2", "9", "10")),
        (("1", "01", "1"), ("01", "1")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("2", "1", "high", "low"), ("1", "2", "high", "low")),
        (("nan", "inf", "nan"), ("inf", "nan")),
        (("1.0",) * 9 + ("x",), ("1.0", "x")),  # 90 % are numbers: not more
        (("1",) * 99 + ("x",), ("1", "x")),  # whole numbers are names of classes
        (("9" * 5000, "1"), ("1", "9" * 5000)),
        (("None", "x", "y", "None"), ("None", "x", "y")),
        (("1.0", "1", "x", "x"), ("1", "x")),  # one number, one class
        (("2", "+2", "1"), ("1", "2")),
    ],
)
def test_labels_that_are_classes(labels: tuple[str, ...], expected: tuple[str, ...]):
    assert find_target(raw(*labels), "y") == Target(expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("0.5", "3", "-1.25"), (-1.25, 3.0)),
        (("1", "2e0"), (1.0, 2.0)),
        (("+.5", "1."), (0.5, 1.0)),
    ],
)
def test_labels_that_are_scores(labels: tuple[str, ...], expected: tuple[float, float]):
    assert find_target(raw(*labels), "y") == Target(None, expected)


@pytest.mark.parametrize(
    ("labels", "expected", "limits"),
    [
        (("1.0", "0.0", "1.0"), ("0", "1"), "[0,1]"),
        (("0", "1.0", "1", "0.0"), ("0", "1"), "[0,1]"),
        (("10.0", "9.", "-1.00", "2e0") * 2, ("-1", "2", "9", "10"), "[-1,10]"),
        (("-0.0", "0", "1.0"), ("0", "1"), "[0,1]"),
        (tuple(f"{i}.0" for i in range(20)) * 2, tuple(map(str, range(20))), "[0,19]"),
    ],
)
def test_whole_numbers_in_decimals_are_classes_and_it_is_said(labels: tuple, expected: tuple, limits: str):
    with pytest.warns(DataWarning) as said:
        assert find_target(raw(*labels), "y") == Target(expected)
    (message,) = (str(warning.message) for warning in said)
    assert message.startswith("task.label=y: the whole numbers ")
    assert f"the classes {expected[0]}, " in message
    assert f"task.label_range={limits}" in message
    assert len(message) < 230


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((*(f"{i}.0" for i in range(1, 11)), "4.0"), (1.0, 10.0)),  # a few return: a score of ten steps
        (tuple(f"{i}.0" for i in range(101)) * 3, (0.0, 100.0)),
    ],
)
def test_where_whole_numbers_in_decimals_stay_a_score_it_is_said_how_to_make_them_classes(labels: tuple, expected):
    with pytest.warns(DataWarning, match=r"^task\.label=y: .* read as a score; task\.labels=\[…\]"):
        assert find_target(raw(*labels), "y") == Target(None, expected)


@pytest.mark.parametrize(
    ("label", "number"),
    [("1", 1), ("1.00", 1), ("-1.", -1), ("1e2", 100), ("1.5e1", 15), ("100e-2", 1), ("-0.0", 0), ("1.5", None)]
    + [
        (text, None)
        for text in ("01", "1,0", "", "x", ".", "1e999", "1.00000000000000000001", "9" * 99, "nan", "\uff11")
    ],
)
def test_what_number_a_label_spells(label: str, number: int | None):
    assert whole_number(label) == number


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (("0", "1"), ("1.0", "0", "0.0", "1e0"), [1, 0, 0, 1]),
        (("0.0", "1.0"), ("1", "0"), [1, 0]),
        (("false", "true"), ("True", "FALSE"), [1, 0]),
        (("False", "True"), ("true", "False"), [1, 0]),
        (("01", "1"), ("01", "1", "1.0"), [0, 1, 1]),
    ],
)
def test_another_spelling_of_a_class_is_that_class(classes: tuple, labels: tuple, expected: list):
    assert label_array(raw(*labels), Target(classes)).tolist() == expected


@pytest.mark.parametrize("label", ["1.5", "01", "yes"])
def test_what_only_resembles_a_class_is_refused(label: str):
    with pytest.raises(ValueError, match="is none of the classes 0, 1, true"):
        label_array(raw(label), Target(("0", "1", "true")))


def test_the_positive_class_gets_id_1():
    target = Target(("attack", "benign"))
    assert put_positive(target, None) == target
    assert put_positive(target, "benign") == target
    assert put_positive(target, "attack") == Target(("benign", "attack"))
    assert put_positive(Target(("0", "1")), "0.0") == Target(("1", "0"))
    with pytest.raises(ValueError, match=r"^task\.positive=atack is none of the classes attack, benign$"):
        put_positive(target, "atack")
    with pytest.raises(ValueError, match=r"^task\.positive=a: f1 has a positive class where there are two, here are 3"):
        put_positive(Target(("a", "b", "c")), "a")
    with pytest.raises(ValueError, match=r"^task\.positive=1: a score has no positive class"):
        put_positive(Target(None, (0.0, 1.0)), "1")


def test_declared_classes_keep_their_order():
    assert find_target(raw("pos", "neg", classes=("pos", "neg", "other")), "y").labels == ("pos", "neg", "other")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("1.5", "2.5") * 10 + ("n/a",), r"a\.csv, line 22: label 'n/a' is no number.*task\.labels"),
        (("1.5", "2.5") * 10 + ("nan", "n/a"), r"a\.csv, line 22: label 'nan' is no number"),
        (("a", "a"), r"a\.csv: every 'y' is a; two classes"),
        (("1.5", "1.50"), r"a\.csv: every 'y' is 1\.5"),
        (("1.5", "1e999"), r"a\.csv, line 3: score '1e999' is no finite number"),
        (("1.5", "1e39"), r"line 3: score '1e39'"),
        (tuple(map(str, range(101))), r"task\.label=y: 101 classes in 101 rows of a\.csv.*task\.labels"),
    ],
)
def test_labels_that_are_neither(labels: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        find_target(raw(*labels), "y")


def test_many_classes_are_believed_when_each_has_samples_or_they_are_few():
    assert len(find_target(raw(*map(str, range(100))), "y").labels or ()) == 100
    assert len(find_target(raw(*map(str, [*range(101)] * 2)), "y").labels or ()) == 101


def test_ids_follow_the_classes_and_a_stranger_is_named_with_its_line():
    target = Target(("b", "a"))
    ids = label_array(raw("a", "b", "a"), target)
    assert (ids.tolist(), ids.dtype) == ([1, 0, 1], np.int64)
    with pytest.raises(ValueError, match=r"a\.csv, line 3: label 'c' is none of the classes b, a$"):
        label_array(raw("a", "c"), target)
    with pytest.raises(ValueError, match=r"… and \d+ more") as caught:
        label_array(raw("x" * 1000), Target(tuple(f"class number {i}" for i in range(1000))))
    assert len(str(caught.value)) < 300


def test_a_range_binds_where_the_user_gave_it():
    scores = label_array(raw("-0.5", "7"), Target(None, (0.0, 5.0)))
    assert (scores.tolist(), scores.dtype) == ([-0.5, 7.0], np.float32)
    with pytest.raises(ValueError, match=r"a\.csv, line 3: score '7' is no number from 0 to 5 \(task\.label_range\)"):
        label_array(raw("0", "7"), Target(None, (0.0, 5.0), strict=True))
    with pytest.raises(ValueError, match=r"line 2: score 'good' is no finite number"):
        label_array(raw("good"), Target(None, (0.0, 5.0)))


def test_unknown_labels_are_minus_one():
    hidden = replace(raw("a", "b"), labels=None)
    for target, dtype in ((Target(("a", "b")), np.int64), (Target(None, (0.0, 1.0)), np.float32)):
        labels = label_array(hidden, target)
        assert (labels.tolist(), labels.dtype) == ([-1, -1], dtype)


def test_metrics_by_default():
    assert choose_metrics(None, ("a", "b")) == ("accuracy", "f1")
    assert choose_metrics(None, ("a", "b", "c")) == ("accuracy", "macro_f1")
    assert choose_metrics(None, None) == ("pearson", "spearman")


@pytest.mark.parametrize(
    ("asked", "labels", "message"),
    [
        (("accuracy", "f1"), ("a", "b", "c"), "'f1' does not fit 3 classes; there are accuracy, macro_f1, matthews"),
        (("pearson",), ("a", "b"), "'pearson' does not fit 2 classes"),
        (("accuracy",), None, "'accuracy' does not fit regression; there are pearson, spearman"),
        (("acuracy",), ("a", "b"), "'acuracy' does not fit"),
        ((), ("a", "b"), "one or more"),
        (("f1", "f1"), ("a", "b"), "each once"),
    ],
)
def test_metrics_that_do_not_fit(asked: tuple[str, ...], labels: tuple[str, ...] | None, message: str):
    with pytest.raises(ValueError, match=rf"^task\.metrics=\[.*{message}"):
        choose_metrics(asked, labels)


def test_metrics_that_fit():
    assert choose_metrics(("matthews", "f1"), ("a", "b")) == ("matthews", "f1")
    assert choose_metrics(("spearman",), None) == ("spearman",)


def task(*labels: str, metrics: tuple[str, ...] = ("accuracy",)) -> TaskSpec:
    return TaskSpec("own", ("text",), "label", labels or None, metrics, None if labels else (0.0, 1.0))


def examples(*counts: int, unknown: int = 0) -> Examples:
    labels = np.repeat([*range(len(counts)), -1], [*counts, unknown])
    return Examples([("x",)] * len(labels), labels)


def test_shares_are_named_largest_first():
    data = examples(630, 4210, unknown=50)
    spec = task("negative", "positive")
    assert class_shares(data, spec) == [("positive", 4210), ("negative", 630)]
    note = "classes: positive 4,210 (87%), negative 630 (13%); a constant answer scores 0.87: look at macro_f1 too"
    assert imbalance_note(data, spec) == note
    small_one = examples(4210, 630)  # f1 is that of class 1
    assert str(imbalance_note(small_one, spec)).endswith("scores 0.87: look at f1 or macro_f1 too")
    assert str(imbalance_note(examples(97, 2, 1), task("a", "b", "c"))).endswith("scores 0.97: look at macro_f1 too")


def test_a_constant_answer_is_no_news_where_classes_are_balanced_or_accuracy_is_not_asked():
    assert imbalance_note(examples(25, 75), task("a", "b")) == "classes: b 75 (75%), a 25 (25%)"
    assert imbalance_note(examples(1, 999), task("a", "b", metrics=("f1",))) == "classes: b 999 (>99%), a 1 (<1%)"


def test_many_classes_stay_a_line():
    note = str(imbalance_note(examples(*range(50)), task(*(f"{i} {'long' * 20}" for i in range(50)))))
    assert note.endswith(" and 44 more")
    assert note.count("%") == 6
    assert len(note) < 300


def test_without_known_classes_there_is_no_note():
    assert imbalance_note(Examples([("x",)], np.zeros(1, np.float32)), task()) is None
    assert imbalance_note(examples(0, 0, unknown=3), task("a", "b")) is None
    assert class_shares(Examples([("x",)], np.zeros(1, np.float32)), task()) == []
