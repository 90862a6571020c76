"""The keys of a task, checked before any file is read."""

from __future__ import annotations

from typing import Any

import pytest

from sharcs_pl.config.task import TaskConfig


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"text": []}, r"task\.text=\[\] must name one text column, or two"),
        ({"text": ["x", "y", "z"]}, r"task\.text=\['x', 'y', 'z'\] must name one text column, or two"),
        ({"text": ["x", "x"]}, "must name different columns"),
        ({"text": ["x", "label"]}, "must name different columns"),
        ({"label": ""}, "must name different columns"),
        ({"dev": 0.0}, r"task\.dev=0\.0 is no share between 0 and 1"),
        ({"dev": 1}, r"task\.dev=1 is no share"),
        ({"labels": ["x"]}, r"task\.labels=\['x'\] must list two classes or more, each once"),
        ({"labels": ["x", "y", "x"]}, "each once"),
        ({"label_range": [1.0, 1.0]}, r"task\.label_range=\[1\.0, 1\.0\] must be \[least, greatest\]"),
        ({"labels": ["x", "y"], "label_range": [0.0, 1.0]}, r"task\.labels .* and task\.label_range .* exclude"),
        ({"quoting": "some"}, r"task\.quoting=some is unknown; choose one of: standard, none"),
    ],
)
def test_keys_of_own_data_that_cannot_serve(keys: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"name": "custom", "text": "text", "label": "label"} | keys
    with pytest.raises(ValueError, match=message):
        TaskConfig(**given)


@pytest.mark.parametrize(("label", "columns"), [(2024, ["2024"]), ([2024, 2025], ["2024", "2025"])])
def test_columns_of_labels_that_yaml_reads_as_numbers_are_texts(label: Any, columns: list[str]) -> None:
    assert TaskConfig(name="custom", text="text", label=label).label_columns == columns
