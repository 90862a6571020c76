"""Rows in memory are the same rows, wherever they come from, and what is no table is refused by its argument's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharcs_pl.data.columns import Request
from sharcs_pl.data.frames import frame_of
from sharcs_pl.data.raw import read_file

TEXTS = ["the soup, hot", 'a "quoted" word', "naïve\nlines"]
LABELS = [1, 0, 1]
COLUMNS: dict[str, list[Any]] = {"message": TEXTS, "other": [None, object, 3], "team": LABELS}
REQUEST = Request(("message", "team"))


def of_polars() -> Any:
    return pytest.importorskip("polars").DataFrame({"message": TEXTS, "team": LABELS})


MADE: dict[str, Callable[[], Any]] = {
    "list of dicts": lambda: [{"message": text, "team": label} for text, label in zip(TEXTS, LABELS, strict=True)],
    "dict of lists": lambda: COLUMNS,
    "pandas": lambda: pd.DataFrame(COLUMNS, index=[5, 7, 9]),
    "pandas categories": lambda: pd.DataFrame({"message": pd.Categorical(TEXTS), "team": LABELS}),
    "polars": of_polars,
    "arrow": lambda: pa.table({"team": LABELS, "message": TEXTS}),
    "a stream of arrow": lambda: pa.table({"team": LABELS, "message": TEXTS}).to_reader(),
    "a batch of arrow": lambda: pa.table({"team": LABELS, "message": TEXTS}).to_batches()[0],
    "dict of arrays": lambda: {"message": np.array(TEXTS), "team": np.array(LABELS)},
    "dict of series": lambda: {"message": pd.Series(TEXTS), "team": pa.array(LABELS)},
    "datasets": lambda: datasets.Dataset.from_dict({"message": TEXTS, "team": LABELS}),
    "shuffled datasets": lambda: datasets.Dataset.from_dict(
        {"message": TEXTS[::-1], "team": LABELS[::-1]}
    ).select([2, 1, 0]),
}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_every_kind_is_read_back_as_the_same_rows(kind: str, tmp_path: Path) -> None:
    frame = frame_of("train", MADE[kind](), REQUEST)
    path = frame.write(tmp_path)
    found = read_file(path, REQUEST)
    assert found.texts == [(text,) for text in TEXTS]
    assert found.labels == ["1", "0", "1"]
    assert pq.read_schema(path).names == ["message", "team"], "other columns stay behind"
    assert path.name == frame.file
    assert path.name.startswith("train-")


@pytest.mark.parametrize("kind", ["Categorical", "Enum", "String"])
def test_categories_and_lists_of_polars_are_texts(kind: str, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    made = polars.Enum(["hot", "old"]) if kind == "Enum" else getattr(polars, kind)
    rows = polars.DataFrame({"message": TEXTS, "team": ["old", "hot", "old"], "tags": [["old", "hot"], [], None]})
    rows = rows.with_columns(polars.col("team").cast(made), polars.col("tags").cast(polars.List(made)))
    path = frame_of("train", rows, Request(("message", "team", "tags"))).write(tmp_path)
    found = pq.read_table(path)
    assert found["team"].to_pylist() == ["old", "hot", "old"]
    assert found["tags"].to_pylist() == [["old", "hot"], [], None]
    assert [pq.read_schema(path).field(name).type for name in ("team", "tags")] == [pa.string(), pa.list_(pa.string())]


def test_names_of_columns_may_be_numbers() -> None:
    frame = frame_of("train", pd.DataFrame([["x", "a", 1], ["y", "b", 0]]), Request(("1", "2")))
    assert frame.table.to_pylist() == [{"1": "a", "2": 1}, {"1": "b", "2": 0}]


def test_names_of_columns_may_be_those_of_methods() -> None:
    rows = pd.DataFrame({"select": ["a"], "column_names": [1]})
    assert frame_of("train", rows, Request(("select", "column_names"))).table.num_rows == 1


def test_a_file_is_named_after_its_contents(tmp_path: Path) -> None:
    one, same, other = (
        frame_of("dev", {"message": texts, "team": LABELS}, REQUEST) for texts in (TEXTS, TEXTS, LABELS)
    )
    path = one.write(tmp_path)
    path.write_bytes(b"kept")
    assert same.write(tmp_path) == path
    assert path.read_bytes() == b"kept"
    assert other.file != one.file


def test_ids_of_declared_classes_become_their_names() -> None:
    features = datasets.Features(
        {"message": datasets.Value("string"), "team": datasets.ClassLabel(names=["support", "billing"])}
    )
    rows = datasets.Dataset.from_dict({"message": TEXTS, "team": [1, 0, -1]}, features=features)
    frame = frame_of("train", rows, REQUEST, "team")
    assert frame.table["team"].to_pylist() == ["billing", "support", None]
    assert frame.classes == ("support", "billing")
    marks = frame_of("train", rows, REQUEST)
    assert (marks.table["team"].to_pylist(), marks.classes) == ([1, 0, -1], None)


def test_lists_of_declared_classes_become_lists_of_names() -> None:
    teams = datasets.List(datasets.ClassLabel(names=["support", "billing"]))
    features = datasets.Features({"message": datasets.Value("string"), "team": teams})
    rows = datasets.Dataset.from_dict({"message": TEXTS, "team": [[1, 0], [], None]}, features=features)
    frame = frame_of("train", rows, REQUEST, "team")
    assert frame.table["team"].to_pylist() == [["billing", "support"], [], None]
    assert frame.classes == ("support", "billing")


def test_missing_values_are_null_and_a_label_may_be_missing() -> None:
    rows = pd.DataFrame({"message": ["a", None], "team": [1.0, float("nan")]})
    frame = frame_of("train", rows, REQUEST)
    assert frame.table.to_pylist() == [{"message": "a", "team": 1.0}, {"message": None, "team": None}]
    hidden = frame_of("test", rows[["message"]], Request(("message",), ("team",)))
    assert hidden.table.column_names == ["message"]


FAULTS: dict[str, tuple[Any, str]] = {
    "no column": (pd.DataFrame({"mesage": ["a"], "team": [1]}), r"^train: no column 'message' \(did you mean 'mesage'"),
    "two of a name": (pd.DataFrame([["a", "b", 1]], columns=["message", "message", "team"]), "^train: more than one"),
    "a row without it": ([{"message": "a", "team": 1}, {"message": "b"}], r"^train\[1\] has no 'team', and other rows"),
    "no dict": ([{"message": "a", "team": 1}, "b"], r"^train\[1\] is 'b', no dict of columns"),
    "no rows": ([], "^train: no rows"),
    "an empty frame": (pd.DataFrame({"message": [], "team": []}), "^train: no rows"),
    "mixed": ({"message": ["a", "b"], "team": [1, "x"]}, "^train: a column mixes types"),
    "unequal": (
        {"message": ["a", "b"], "team": [1]},
        "^train: every column needs as many values: 'message' has 2, 'team' has 1$",
    ),
    "a column": (pd.Series(["a", "b"]), "^train is a Series without columns; give rows: a DataFrame"),
    "a column of arrow": (pa.chunked_array([["a"]]), "^train is a ChunkedArray without columns; give rows: a DataF"),
    "a dict of texts": ({"message": "a", "team": "b"}, "^train={'message'.* is neither a file nor rows: a DataFrame"),
    "a number": (object(), "^train=<object .* is neither a file nor rows: a DataFrame"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_the_argument(fault: str) -> None:
    rows, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        frame_of("train", rows, REQUEST)
