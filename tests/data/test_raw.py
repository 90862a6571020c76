from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import datasets
import pytest

from sharcs_pl.data.files import Request
from sharcs_pl.data.labels import find_labels
from sharcs_pl.data.raw import LabelCells, RawSplit, label_text, read_file, read_hub
from tests.data.formats import NASTY, SUFFIXES, write_rows

REQUEST = Request(("text", "label"))
HIDDEN = Request(("text",), optional=("label",))
COLUMN = LabelCells(("label",))
TYPED = (".jsonl", ".ndjson", ".json", ".parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_texts_and_labels_by_place(suffix: str, tmp_path: Path):
    texts = list(NASTY.values())
    path = write_rows(tmp_path / f"a{suffix}", {"label": range(len(texts)), "text": texts})
    found = read_file(path, REQUEST)
    assert (found.name, found.classes) == (path.name, None)
    assert found.texts == [(text,) for text in texts]
    assert found.labels == [str(number) for number in range(len(texts))]
    assert len(set(found.places)) == len(texts)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_spaces_around_a_label_are_no_part_of_it_where_cells_are_all_text(suffix: str, tmp_path: Path):
    path = write_rows(tmp_path / f"a{suffix}", {"text": ["  x  "], "label": [" a b "]})
    for request in (REQUEST, HIDDEN):
        found = read_file(path, request)
        assert found.texts == [("  x  ",)]
        assert found.labels == [" a b " if suffix in TYPED else "a b"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_split_may_have_no_labels(suffix: str, tmp_path: Path):
    found = read_file(write_rows(tmp_path / f"a{suffix}", {"text": ["x", "y"]}), HIDDEN)
    assert (found.texts, found.labels) == ([("x",), ("y",)], None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_label_column_that_is_empty_throughout_is_none(suffix: str, tmp_path: Path):
    for empty in (["", " "], *([[None, None]] if suffix in TYPED else [])):
        path = write_rows(tmp_path / f"a{suffix}", {"text": ["x", "y"], "label": empty})
        assert (read_file(path, HIDDEN).labels, len(read_file(path, HIDDEN).texts)) == (None, 2)
        with pytest.raises(ValueError, match=r"(line 2|line 1|row 1|item 1): no label$"):
            read_file(path, REQUEST)
    for labels in (["a", "", "b", ""], ["", "b", "c", "d"]):
        path = write_rows(tmp_path / f"a{suffix}", {"text": ["w", "x", "y", "z"], "label": labels})
        first = labels.index("") + (2 if suffix in (".csv", ".tsv") else 1)
        with pytest.raises(
            ValueError, match=rf"^a\{suffix}, (line|row|item) {first}: no label, and other rows have one"
        ):
            read_file(path, HIDDEN)


def test_numbers_that_are_none_are_no_labels(tmp_path: Path):
    nan = float("nan")
    path = write_rows(tmp_path / "a.parquet", {"text": ["x", "y"], "label": [nan, nan]})
    assert read_file(path, HIDDEN).labels is None
    path = write_rows(tmp_path / "a.parquet", {"text": ["x", "y"], "label": [1.0, nan]})
    with pytest.raises(ValueError, match=r"^a\.parquet, row 2: no label, and other rows"):
        read_file(path, HIDDEN)


@pytest.mark.parametrize("suffix", TYPED)
def test_labels_of_any_type_become_text_in_one_way(suffix: str, tmp_path: Path):
    for values, expected in (
        ([True, False], ["true", "false"]),
        ([4, -1], ["4", "-1"]),
        ([4.0, 1e-7], ["4.0", "1e-07"]),
    ):
        found = read_file(write_rows(tmp_path / f"a{suffix}", {"text": ["x", "y"], "label": values}), REQUEST)
        assert found.labels == expected
    assert label_text(Decimal("4.50"), "a") == "4.50"


FAULTS = [
    (SUFFIXES, {"text": ["a", ""], "label": ["x", "y"]}, "'text' is empty"),
    (SUFFIXES, {"text": ["a", " \u3000\t"], "label": ["x", "y"]}, "'text' is empty"),
    (SUFFIXES, {"text": ["a", "b"], "label": ["x", " "]}, "no label"),
    (TYPED, {"text": ["a", None], "label": ["x", "y"]}, "'text' is null"),
    (TYPED, {"text": [1, 2], "label": ["x", "y"]}, "'text' is 1, not a text"),
    (TYPED, {"text": ["a", "b"], "label": ["x", None]}, "no label"),
    (TYPED, {"text": ["a", "b"], "label": [1.5, float("nan")]}, "no label"),
    (TYPED, {"text": ["a", "b"], "label": [[1] * 999, [2]]}, r"label \[1, 1.*…\] is neither text nor a number"),
]


@pytest.mark.parametrize(
    ("suffix", "columns", "message"),
    [(suffix, columns, message) for suffixes, columns, message in FAULTS for suffix in suffixes],
)
def test_a_row_that_cannot_be_used_is_named(suffix: str, columns: dict, message: str, tmp_path: Path):
    path = write_rows(tmp_path / f"tickets{suffix}", columns)
    with pytest.raises(ValueError, match=rf"^tickets\{suffix}, (line|row|item) \d: {message}$") as caught:
        read_file(path, REQUEST)
    assert len(str(caught.value)) < 300


def read_folder(
    folder: Path, labels: list, feature: object, request: Request = REQUEST, cells: LabelCells = COLUMN
) -> RawSplit:
    folder.mkdir(exist_ok=True)
    features = datasets.Features({"label": feature, "text": datasets.Value("string")})
    data = {"text": [f"text {i}" for i in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(data, features).to_parquet(folder / "train.parquet")
    return read_hub(str(folder), None, "train", request, cells)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a dataset; the cache is this test's own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "reviews"


def test_a_dataset_gives_what_a_file_gives(folder: Path):
    found = read_folder(folder, [4, 10], datasets.Value("int64"))
    assert (found.labels, found.classes) == (["4", "10"], None)
    assert found.texts == [("text 0",), ("text 1",)]
    assert found.places == ["reviews train, row 1", "reviews train, row 2"]


def test_declared_classes_become_their_names(folder: Path):
    found = read_folder(folder, [1, 0], datasets.ClassLabel(names=["pos", "neg"]))
    assert (found.labels, found.classes) == (["neg", "pos"], ("pos", "neg"))


def test_labels_that_a_dataset_hides(folder: Path):
    feature = datasets.ClassLabel(names=["pos", "neg"])
    assert read_folder(folder, [-1, -1], feature, HIDDEN).labels is None
    with pytest.raises(ValueError, match=r"^reviews train, row 1: no label"):
        read_folder(folder, [-1, -1], feature)
    with pytest.raises(ValueError, match=r"^reviews train, row 2: no label"):
        read_folder(folder, [0, -1], feature, HIDDEN)


def test_a_dataset_lists_the_declared_labels_of_a_text_or_hides_them(folder: Path):
    feature = datasets.List(datasets.ClassLabel(names=["pos", "neg"]))
    cells = LabelCells(("label",), several=True)
    assert read_folder(folder, [[1, 0], []], feature, cells=cells).labels == [("neg", "pos"), ()]
    assert read_folder(folder, [[-1], [-1]], feature, HIDDEN, cells).labels is None
    with pytest.raises(ValueError, match=r"^reviews train, row 2: no label"):
        read_folder(folder, [[0], [-1]], feature, HIDDEN, cells)


def test_one_declared_label_is_too_few(folder: Path):
    feature = datasets.List(datasets.ClassLabel(names=["spam"]))
    found = read_folder(folder, [[0], []], feature, cells=LabelCells(("label",), several=True))
    with pytest.raises(ValueError, match="every 'label' is spam; two classes are needed"):
        find_labels(found, ["label"])
