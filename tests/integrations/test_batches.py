"""Batches of each kind keep their columns, and a name that is taken twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sharcs_pl.integrations.batches import column_names, read_column, with_columns

COLUMNS = {"text": ["a", None, "c"], "label": [1, 0, 1]}
ADDED = {"label": pa.array(["x", None, "y"]), "macs": pa.array([1, 2, 3], pa.int64())}
MAKE = {
    "arrow": pa.table,
    "pandas": lambda columns: pd.DataFrame(columns, index=[7, 3, 5]),
    "lists": dict,
    "numpy": lambda columns: {name: np.array(values, object) for name, values in columns.items()},
}


@pytest.mark.parametrize("kind", MAKE)
def test_new_columns_stand_beside_the_old_ones(kind: str) -> None:
    batch: Any = MAKE[kind](COLUMNS)
    found = with_columns(batch, ADDED, dropped=["gone"])
    assert type(found) is type(batch)
    assert column_names(found) == ["text", "input_label", "label", "macs"]
    expected = {"text": COLUMNS["text"], "input_label": COLUMNS["label"], "label": ["x", None, "y"], "macs": [1, 2, 3]}
    assert {name: read_column(found, name) for name in column_names(found)} == expected
    assert column_names(batch) == ["text", "label"]  # the caller's own
    if kind == "pandas":
        assert found.index.tolist() == [7, 3, 5]


@pytest.mark.parametrize("kind", MAKE)
def test_columns_that_were_asked_to_go_make_room_for_their_names(kind: str) -> None:
    found = with_columns(MAKE[kind](COLUMNS), ADDED, dropped=["label"])
    assert column_names(found) == ["text", "label", "macs"]


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no column 'body'; it has text, label"):
        read_column(COLUMNS, "body")


def test_columns_of_pandas_need_no_text_as_name() -> None:
    batch = pd.DataFrame({"text": ["a"], 0: [3], "label": [1]})
    found = with_columns(batch, {"label": pa.array(["x"])})
    assert column_names(found) == ["text", "0", "input_label", "label"]
    assert read_column(batch, "0") == [3]
