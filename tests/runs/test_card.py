"""The card says what lies in the folder, and nothing that was read from data can break it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.saved import save_model
from sharcs_pl.runs.card import is_own_card, write_card
from tests.conftest import tiny_bert, tiny_model

METRICS: dict[str, Any] = {
    "task": "mrpc",
    "metric": "accuracy",
    "routed": {"value": 0.8125, "macs": 41_000_000.0, "macs_fraction": 0.7071},
    "rungs": [
        {"value": 0.75, "macs": 30e6, "macs_fraction": 0.5172, "share": 0.625, "width": 0.25},
        {"value": 0.875, "macs": 58e6, "macs_fraction": 1.0003, "share": 0.375, "width": 1.0},
    ],
    "oracle": {"value": 0.9375, "macs": 33e6, "macs_fraction": 0.569},
}
RECORD = {"task": {"name": "mrpc", "max_length": 96}, "encoder": {"pretrained": "some-org/some-model"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def card_of(folder: Path, metrics: Any = None, record: Any = None) -> tuple[str, dict[str, Any]]:
    """The card's text after the front matter, and the front matter as YAML reads it."""
    for name, found in (("metrics.json", metrics), ("training.json", record)):
        if found is not None:
            (folder / name).write_text(json.dumps(found))
    write_card(folder)
    empty, front, text = (folder / "README.md").read_text().split("---\n", 2)
    assert empty == ""
    return text, yaml.safe_load(front)


def row(text: str, name: str) -> list[str]:
    """The cells of the table row that begins with a name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_trained_model(folder: Path) -> None:
    text, front = card_of(folder, METRICS, RECORD)
    assert front["pipeline_tag"] == "text-classification"
    assert front["base_model"] == "some-org/some-model"
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "mrpc"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.8125, "name": "accuracy, routed"}]
    assert row(text, "routed") == ["routed", "0.8125", "41", "0.707", ""]
    assert row(text, "every text at width 0.25")[1:] == ["0.7500", "30", "0.517", "0.625"]
    assert row(text, "every text at width 1")[1:] == ["0.8750", "58", "1.000", "0.375"]
    assert row(text, "oracle routing (the cheapest rung that is right)")[1:4] == ["0.9375", "33", "0.569"]
    assert row(text, "0") == ["0", "0.25", "4", "1", "8"]
    assert row(text, "1") == ["1", "1", "16", "4", "32"]
    assert "After layer 1 of 3" in text
    assert "batch_size=32, truncation=True))" in text  # a text longer than the encoder reads is cut
    assert "cut at 96 tokens" in text
    assert "arxiv.org/abs/2310.12126" in text


def test_a_model_that_was_only_saved(folder: Path) -> None:
    text, front = card_of(folder)
    assert "model-index" not in front
    assert "base_model" not in front
    assert "## Results" not in text
    assert "## Ladder" in text


def test_a_regression_has_no_oracle_and_no_classes(folder: Path) -> None:
    change(folder, id2label={"0": "LABEL_0"})
    nothing = {"value": None, "macs": None, "macs_fraction": None}
    text, _ = card_of(folder, METRICS | {"oracle": nothing})
    assert "answers a text with a score" in text
    assert "oracle routing" not in text


def test_the_oracle_of_several_labels_counts_right_labels(folder: Path) -> None:
    change(folder, problem_type="multi_label_classification")
    text, _ = card_of(folder, METRICS | {"metric": "micro_f1"})
    assert row(text, "oracle routing (the cheapest of the rungs with the most right labels)")[1] == "0.9375"
    assert "rung that is right" not in text


def test_a_dense_model_has_no_ladder_and_no_points(folder: Path) -> None:
    change(folder, widths=["1"])
    text, _ = card_of(folder, METRICS | {"rungs": METRICS["rungs"][1:]})
    assert "no router" in text
    assert "## Ladder" not in text
    assert "## Operating points" not in text
    assert "| routed |" not in text
    assert row(text, "every text at width 1")[1] == "0.8750"


def test_a_stock_checkpoint_of_a_run_is_used_without_this_package(tmp_path: Path) -> None:
    model = SharcsForSequenceClassification.from_encoder(tiny_bert(), widths=[1], split_layer=1)
    save_model(model, tmp_path)
    text, front = card_of(tmp_path, METRICS | {"rungs": METRICS["rungs"][1:]}, RECORD)
    assert (front["library_name"], front["base_model"]) == ("transformers", "some-org/some-model")
    assert front["model-index"][0]["results"][0]["metrics"][0]["name"] == "accuracy"
    assert "sharcs_pl" not in text
    assert "from transformers import pipeline" in text
    assert "adaptive" not in text
    assert row(text, "every text at width 1")[1] == "0.8750"


def test_the_way_to_a_stock_checkpoint_is_told_where_there_is_one(folder: Path) -> None:
    assert "format=transformers" in card_of(folder)[0]
    change(folder, top_rung_norm=True)
    assert "format=transformers" not in card_of(folder)[0]


def test_operating_points_and_the_one_in_use(folder: Path) -> None:
    text, _ = card_of(folder)
    assert row(text, "trained (in use)")[1] == "the likeliest rung"
    point = {"thresholds": [0.12345], "metric": "f1", "value": 0.9, "macs_fraction": 0.6, "samples": 1234}
    change(folder, operating_points={"budget_0.6": point, "bare": {"thresholds": [1e9]}}, operating_point="budget_0.6")
    change(folder, router_threshold=0.7)
    text, _ = card_of(folder)
    assert row(text, "trained")[1] == "probability 0.7"
    assert row(text, r"budget\_0.6 (in use)")[1:] == ["0.1235", "f1", "0.9000", "0.6000", "1,234", "1,234", ""]
    assert row(text, "bare")[1:] == ["1e+09", "", "", "", "", "", ""]
    assert "set_operating_point('budget_0.6')" in text


def test_a_point_names_the_runtime_and_the_precision_that_it_was_chosen_in(folder: Path) -> None:
    change(folder, operating_points={"p": POINT | {"backend": "openvino", "precision": "int8"}, "q": POINT})
    text, _ = card_of(folder)
    assert row(text, "p")[1] == "0.5, 1 (backend=openvino, precision=int8)"
    assert row(text, "q")[1] == "0.5, 1"


POINT = {"thresholds": [0.5, 1], "metric": "accuracy", "value": 0.9, "macs_fraction": 0.6, "samples": 1234,
         "confidence": 0.95, "risk_bound": 0.0123}  # fmt: skip


def test_a_value_stands_beside_the_texts_that_measured_it(folder: Path) -> None:
    change(folder, operating_points={"p": POINT | {"holdout_samples": 99, "risk_bound_holds": True}})
    text, _ = card_of(folder)
    assert row(text, "point")[3:7] == ["value", "of dense", "measured on", "chosen on"]
    assert row(text, "p")[3:] == ["0.9000", "0.6000", "99", "1,234", "0.0123 with confidence 0.95, from 99 texts"]


PROMISE = {"max_drop": 0.02, "tested": 617, "risk_bound_holds": True}


@pytest.mark.parametrize(
    ("more", "texts", "why"),
    [
        (PROMISE, 617, ""),
        (PROMISE | {"holdout_samples": 99}, 617, ""),
        ({"holdout_samples": 99, "risk_bound_holds": True}, 99, ""),
        ({"risk_bound_holds": False}, 1234, "the texts chose the thresholds too"),
        ({}, 1234, "the texts chose the thresholds too"),
        (PROMISE | {"chose_epoch": 5, "risk_bound_holds": False}, 617, "the texts chose the epoch too"),
    ],
)
def test_a_bound_stands_beside_the_texts_that_tested_it_and_says_whether_it_holds(
    folder: Path, more: dict[str, Any], texts: int, why: str
) -> None:
    change(folder, operating_points={"p": POINT | more})
    told = f"0.0123 with confidence 0.95, from {texts:,} texts"
    assert row(card_of(folder)[0], "p")[-1] == (f"no promise ({told}): {why}" if why else told)


@pytest.mark.parametrize("label", ["<img src=x onerror=alert(1)>", "a | b", "two\n# lines", "`code`", "[x](http://y)"])
def test_names_from_data_are_plain_text(folder: Path, label: str) -> None:
    change(folder, id2label={"0": label, "1": "other"})
    text, _ = card_of(folder, METRICS | {"task": label})
    shown = [line for line in text.splitlines() if "answers a text with" in line or "validation split of" in line]
    assert len(shown) == 2
    for line in shown:
        assert "<img" not in line
        assert "other" in line or "MACs" in line
        assert not set("|`[]") & set(line.replace("\\|", "").replace("\\`", "").replace("\\[", "").replace("\\]", ""))
    assert not [line for line in text.splitlines() if line.startswith("# lines")]


def test_the_front_matter_and_every_cell_hold_one_line_each(folder: Path) -> None:
    strange = "x\n---\n| `a` | <b>"
    point = {"thresholds": [0.5], "metric": strange}
    change(folder, operating_points={strange: point}, id2label={"0": strange, "1": "y"})
    text, front = card_of(folder, METRICS | {"metric": strange, "task": strange})
    assert front["model-index"][0]["results"][0]["metrics"][0]["type"] == "x --- | `a` | <b>"
    assert "<b>" not in text.replace("'x\\n---\\n| `a` | <b>'", "")  # but in the line of Python
    heads = [line for line in text.splitlines() if line.startswith("|  | ")]
    assert heads == [r"|  | x --- \| \`a\` \| &lt;b&gt; | million MACs per text | of dense | share routed there |"]


@pytest.mark.parametrize("values", [{"widths": ["<b>", "1"]}, {"split_layer": "<b>"}])
def test_a_number_is_a_number(folder: Path, values: Any) -> None:
    change(folder, **values)
    with pytest.raises(ValueError, match="<b>"):
        write_card(folder)


def test_an_encoder_from_a_folder_or_package_is_not_named(folder: Path, tmp_path: Path) -> None:
    for name in (str(tmp_path), "pkg:some_package/model", None):
        text, front = card_of(folder, record={"encoder": {"pretrained": name}})
        assert "base_model" not in front
        assert str(tmp_path) not in text


def test_what_is_no_routed_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        write_card(tmp_path)
    change(folder, model_type="bert")
    with pytest.raises(ValueError, match="'bert'"):
        write_card(folder)
    assert not (folder / "README.md").exists()


def test_a_card_of_an_earlier_version_is_known_as_its_own_and_an_edited_one_is_not(tmp_path: Path) -> None:
    folder = shutil.copytree(Path(__file__).parents[1] / "fixtures" / "older_run" / "model", tmp_path / "model")
    assert is_own_card(folder)
    before = (folder / "README.md").read_text()
    for edited in (before.replace("- bert\n", "- mine\n"), before + "Mine.\n", before[4:], "---\n: [\n---\n"):
        (folder / "README.md").write_text(edited)
        assert not is_own_card(folder)
    write_card(folder)
    assert is_own_card(folder)
