from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharcs_pl.data.own import OwnSource, load_own
from sharcs_pl.data.several import label_counts
from sharcs_pl.data.spec import UNKNOWN_LABEL, Examples
from tests.data.formats import write_rows

TEXTS = ["a b", "c d", "e f", "g h"]
NAMES = [["toxic", "insult"], [], ["insult"], ["toxic"]]
MATRIX = [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]  # insult, toxic


def source(train: Path, **keys: Any) -> OwnSource:
    options: dict[str, Any] = {"dev": None, "test": None, "text": ("text",), "label": "kinds", "multi_label": True}
    return OwnSource(train=str(train), **(options | keys))


def read(train: Path, **keys: Any) -> tuple[Any, Examples]:
    task, found = load_own(source(train, **keys), ["train"], 1)
    return task, found["train"]


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".parquet", ".csv", ".tsv"])
def test_every_format_gives_the_same_labels(tmp_path: Path, kind: str) -> None:
    flat = kind in (".csv", ".tsv")
    cells: list[Any] = [" | ".join(names) for names in NAMES] if flat else NAMES
    path = write_rows(tmp_path / f"a{kind}", {"text": TEXTS, "kinds": cells})
    task, found = read(path, label_separator="|" if flat else None)
    assert task.labels == ("insult", "toxic")
    assert task.multi_label
    assert task.metrics == ("micro_f1", "macro_f1")
    assert found.labels.dtype == np.float32
    assert found.labels.tolist() == MATRIX


def test_a_column_for_each_label_gives_them_in_the_order_of_the_key(tmp_path: Path) -> None:
    marks = {"toxic": [1, 0, "0.0", "true"], "insult": ["1", "0", "TRUE", "no"]}
    path = write_rows(tmp_path / "a.csv", {"text": TEXTS, **marks})
    task, found = read(path, label=("toxic", "insult"))
    assert task.labels == ("toxic", "insult")
    assert found.labels.tolist() == [row[::-1] for row in MATRIX]


def test_the_labels_that_the_keys_list_keep_their_order_and_refuse_others(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"text": TEXTS, "kinds": NAMES})
    task, found = read(path, labels=("toxic", "threat", "insult"))
    assert task.labels == ("toxic", "threat", "insult")
    assert found.labels[0].tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match=r"a.jsonl, line 1: label 'insult' is none of the labels toxic, threat"):
        read(path, labels=("toxic", "threat"))


@pytest.mark.parametrize(
    ("columns", "keys", "piece"),
    [
        ({"kinds": [["a"], "b", [], []]}, {}, r"line 2: label 'b' is one text; give task.label_separator"),
        ({"kinds": [["a"], None, [], []]}, {}, r"line 2: no label, where a list of names is expected"),
        ({"kinds": [["a"], 3, [], []]}, {}, r"line 2: label 3"),
        ({"kinds": [["a"], [None], [], []]}, {}, r"line 2: no label"),
        ({"kinds": [["a"], [" a"], [], []]}, {}, r"a.jsonl: in 'kinds' there is only a; two labels or more"),
        ({"kinds": [[1], [1.0], [1], []]}, {}, r"a.jsonl: in 'kinds' there is only 1; two labels or more"),
        ({"x": [1, 0, 0, 1], "y": [0, 1, 2, 0]}, {"label": ("x", "y")}, r"line 3: 'y' is 2; a column of a label"),
        ({"x": [1, 0, 0, 1], "y": [0, None, 1, 0]}, {"label": ("x", "y")}, r"line 2: 'y' is empty"),
    ],
)
def test_a_cell_that_holds_no_labels_is_named(
    tmp_path: Path, columns: dict[str, Any], keys: dict[str, Any], piece: str
) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"text": TEXTS, **columns})
    with pytest.raises(ValueError, match=piece):
        read(path, **keys)


@pytest.mark.parametrize("kinds", [None, ["", "", "", ""]])
def test_a_test_file_may_lack_the_labels(tmp_path: Path, kinds: list[str] | None) -> None:
    train = write_rows(tmp_path / "a.jsonl", {"text": TEXTS, "kinds": NAMES})
    columns = {"text": TEXTS} | ({} if kinds is None else {"kinds": kinds})
    test = write_rows(tmp_path / "b.csv", columns)
    _, found = load_own(source(train, test=str(test), label_separator=","), ["test"], 1)
    assert found["test"].labels.tolist() == [[UNKNOWN_LABEL] * 2] * 4


def test_in_a_test_file_an_empty_text_has_no_label_and_null_is_refused(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "a.jsonl", {"text": TEXTS, "kinds": NAMES})
    test = write_rows(tmp_path / "b.jsonl", {"text": TEXTS, "kinds": [["toxic"], "", [], ["insult"]]})
    _, found = load_own(source(train, test=str(test)), ["test"], 1)
    assert found["test"].labels.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
    write_rows(test, {"text": TEXTS, "kinds": [["toxic"], None, [], ["insult"]]})
    with pytest.raises(ValueError, match=r"b.jsonl, line 2: no label"):
        load_own(source(train, test=str(test)), ["test"], 1)


def test_other_spellings_of_a_label_are_the_label(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"text": TEXTS, "kinds": [[1, "b "], [1.0], [" b"], ["1.0", 1]]})
    task, found = read(path)
    assert task.labels == ("1", "b")
    assert found.labels.tolist() == [[1, 1], [1, 0], [0, 1], [1, 0]]


def test_labels_that_are_all_integers_are_in_numerical_order(tmp_path: Path) -> None:
    kinds = [[10, 2], [], [2, -1], ["10"]]
    path = write_rows(tmp_path / "a.jsonl", {"text": TEXTS, "kinds": kinds})
    task, found = read(path)
    assert task.labels == ("-1", "2", "10")
    assert found.labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert read(path, labels=("-1", "10", "2"))[0].labels == ("-1", "10", "2")  # as runs of before have them
    write_rows(path, {"text": TEXTS, "kinds": [*kinds[:3], ["b"]]})
    assert read(path)[0].labels == ("-1", "10", "2", "b")


def test_a_share_keeps_every_row_once(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    path = write_rows(tmp_path / "a.jsonl", {"text": texts, "kinds": NAMES * 10})
    _, found = load_own(source(path, dev=0.25), ["train", "validation"], 1)
    dev = found["validation"].labels
    assert (dev.sum(0).tolist(), int((dev.sum(1) == 0).sum())) == ([5, 5], 2)  # of 20, 20 and 10
    assert sorted([*found["train"].texts, *found["validation"].texts]) == sorted((text,) for text in texts)
    assert label_counts(found["train"].labels, 2) == (found["train"].labels > 0).sum(0).tolist()
