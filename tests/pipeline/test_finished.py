"""What a finished run gives, and what its commands do with arguments of Python."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sharcs_pl import RoutedPredictor, SharcsForSequenceClassification, TrainedRun, fit, open_run
from tests.commands import run_line
from tests.pipeline.rows import OWN, ROWS

HIDDEN = [{"review": row["review"]} for row in ROWS[:7]]


@pytest.fixture(scope="module")
def own(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run on rows in memory, with others to predict; no test may change its model."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        return fit(ROWS, test=HIDDEN, encoder=encoder, directory=folder / "run", **OWN)


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_results_and_model(own: TrainedRun) -> None:
    assert own.metrics == json.loads((own.directory / "metrics.json").read_text())
    assert own.directory.is_absolute()
    assert {path.name for path in own.figures.values()} == {path.name for path in own.directory.glob("figures/*.png")}
    model, predictor = own.model(), own.predictor(batch_size=4)
    assert isinstance(model, SharcsForSequenceClassification)
    assert not model.training
    assert isinstance(predictor, RoutedPredictor)
    assert predictor.batch_size == 4
    batch = own.tokenizer()([ROWS[0]["review"]], return_tensors="pt")
    with torch.inference_mode():
        names: Any = model.config.id2label
        label = names[int(model(**batch).logits.argmax())]
    assert [answer.label for answer in predictor.predict([ROWS[0]["review"]])] == [label]


class Cells(HTMLParser):
    """The texts of a page's table cells, and the sources of its pictures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.pictures: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.pictures += [value for name, value in attrs if (tag, name) == ("img", "src")]


def test_a_notebook_shows_table_and_figures(own: TrainedRun) -> None:
    page = Cells(own._repr_html_())
    routed = own.metrics["routed"]
    at = page.cells.index("routed")
    assert page.cells[at + 1 : at + 3] == [f"{routed['value']:.4f}", f"{routed['macs_fraction']:.1%}"]
    assert {"width 0.25", "width 1", "random, same shares", "oracle"} < set(page.cells)
    assert len(page.pictures) == len(own.figures)
    assert all(picture.startswith("data:image/png;base64,") for picture in page.pictures)


def test_of_a_run_that_is_not_finished_only_the_place_is_shown(tiny_run: Path) -> None:
    (tiny_run / "metrics.json").unlink()
    for path in tiny_run.glob("figures/*"):  # none without the extra [plots]
        path.unlink()
    run = open_run(tiny_run)
    assert Cells(run._repr_html_()).cells == [str(tiny_run)]
    with pytest.raises(ValueError, match=r"has no metrics\.json yet: its run"):
        _ = run.metrics


def test_evaluations_are_the_command_s(own: TrainedRun, tmp_path: Path) -> None:
    found = own.evaluate(output=tmp_path / "one", eval_batch_size=16)
    done = run_line(
        ["sharcs_pl.evaluate", f"run={own.directory}", "output=two", "eval_batch_size=16"], cwd=tmp_path, kind="loaded"
    )
    assert done.returncode == 0, done.stderr
    assert found == json.loads((tmp_path / "one" / "metrics.json").read_text())
    for name in ("metrics.json", "predictions.tsv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_other_rows_are_evaluated_and_predicted(own: TrainedRun, tmp_path: Path) -> None:
    rows = pd.DataFrame(ROWS)
    with pytest.warns(UserWarning, match="of 20 validation texts were trained on"):
        found = own.evaluate(dev=rows[:20], output=tmp_path / "dev")
    assert found is not None
    assert [row["review"] for row in predictions(tmp_path / "dev")] == [row["review"] for row in ROWS[:20]]
    assert own.evaluate(test=HIDDEN[2:5], output=tmp_path / "test") is None
    assert [row["review"] for row in predictions(tmp_path / "test")] == [row["review"] for row in HIDDEN[2:5]]
    own.evaluate("test", output=tmp_path / "given")
    assert len(predictions(tmp_path / "given")) == len(HIDDEN), "those that the run was given"


def test_a_run_of_a_built_in_task_takes_no_rows(tiny_run: Path) -> None:
    with pytest.raises(ValueError, match=r"^dev: this run is of task=graded, which takes no rows$"):
        open_run(tiny_run).evaluate(dev=ROWS)
    with pytest.raises(ValueError, match=r"^dev describes custom data, task=graded has its own"):
        open_run(tiny_run).evaluate(dev="nowhere.csv")


def test_a_comparison_with_another_run(own: TrainedRun, tmp_path: Path) -> None:
    own.evaluate(compare=own, output=tmp_path / "out", draws=100)
    assert (tmp_path / "out" / "comparison.json").is_file()


def test_a_point_is_set_and_used(tiny_run: Path) -> None:
    run = open_run(tiny_run)
    record = run.calibrate(budget=0.6, name="cheap", default=True, rule="cascade", eval_batch_size=8)
    kept = json.loads((tiny_run / "model" / "config.json").read_text())
    assert kept["operating_points"]["cheap"] == record
    assert record["rule"] == "cascade"
    assert run.predictor().rule == run.predictor(point="cheap").rule
    with pytest.raises(ValueError, match=r"^name='cheap': the model has this point; add overwrite=True, "):
        run.calibrate(budget=0.6, name="cheap")


def test_the_model_is_exported(own: TrainedRun, tmp_path: Path) -> None:
    assert own.export(tmp_path / "stock", format="transformers") == tmp_path / "stock"
    assert (tmp_path / "stock" / "config.json").is_file()
    assert own.export(tmp_path / "narrow.pt2", format="torch", rung=0) == tmp_path / "narrow.pt2"
    assert (tmp_path / "narrow.pt2").is_file()


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "split": ("evaluate", {"split": "tesst"}, "^split='tesst' is unknown; choose one of: validation, test$"),
    "test": ("evaluate", {"split": "validation", "test": HIDDEN}, "^test is read with split=test only; add it$"),
    "column": ("evaluate", {"dev": HIDDEN}, "^dev: no column 'stars' among review$"),
    "file": (
        "evaluate",
        {"dev": "nowhere.csv"},
        "^dev='nowhere.csv': there is no such file; give dev=<where it is now>$",
    ),
    "label": (
        "evaluate",
        {"dev": [{"review": "a", "stars": "new"}]},
        "^dev, row 1: label 'new' is none of the classes",
    ),
    "key": ("evaluate", {"drawz": 3}, r"^there is no key drawz; did you mean draws\?$"),
    "budget": ("calibrate", {"budget": 7}, "^budget=7.0 is no fraction of the dense model's cost"),
    "no dial": ("calibrate", {}, "^what should be reached is missing; give one of budget=0.6"),
    "rung": ("export", {"output": "m.pt2", "format": "torch", "rung": 7}, "^rung='7' is not on the ladder"),
    "format": ("export", {"output": "m", "format": "pickle"}, "^format='pickle' is unknown; choose one of: onnx"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_in_the_words_of_the_call(own: TrainedRun, case: str) -> None:
    method, arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        getattr(own, method)(**arguments)
