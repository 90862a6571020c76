"""Answers in batches of any library, and through actors of Ray that may be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.integrations.ray import RoutedTexts, answer_dataset
from tests.inference.conftest import folder as folder  # a fixture
from tests.inference.made import texts

GIVEN = [text or "film" for text in texts(40)]
ANSWERS = ["label", "p_no", "p_maybe", "p_yes", "rung", "width", "macs"]
CASCADE = {"rule": "cascade", "certainty": "probability", "average": False}


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The routed model, with a cascade as an operating point that half of `GIVEN` stop at the narrow width of."""
    place = Path(shutil.copytree(folder, tmp_path_factory.mktemp("run") / "model"))
    add_point(place, [1.0, 1.0])
    sure = sorted(each.certainties[0] for each in RoutedPredictor.from_pretrained(place, point="half").predict(GIVEN))
    add_point(place, [(sure[19] + sure[20]) / 2, 0.0])
    return str(place)


def add_point(model: Path, stops: list[float]) -> None:
    settings = json.loads((model / "config.json").read_text())
    settings["operating_points"] = {"half": CASCADE | {"stops": stops}}
    (model / "config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def expected(run: str) -> dict[str, Any]:
    """What a predictor answers to `GIVEN` at both points, by text."""
    found = {point: RoutedPredictor.from_pretrained(run, point=point).predict(GIVEN) for point in (None, "half")}
    return {str(point): dict(zip(GIVEN, answers, strict=True)) for point, answers in found.items()}


def check(rows: list[dict[str, Any]], expected: dict[str, Any], macs: bool = True) -> None:
    for row in rows:
        wanted = expected[row["text"]]
        assert (row["label"], row["width"], row["rung"]) == (wanted.label, wanted.width, wanted.rung)
        assert row["macs"] == wanted.macs or not macs
        assert [row[name] for name in ANSWERS[1:4]] == pytest.approx(wanted.probabilities, abs=1e-5)


MAKE = {
    "arrow": pa.Table.from_pylist,
    "pandas": pd.DataFrame,
    "lists": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "numpy": lambda rows: {name: np.array([row[name] for row in rows]) for name in rows[0]},
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_batch_of_any_kind_gets_the_answers_of_predict(run: str, expected: dict[str, Any], kind: str) -> None:
    batch = MAKE[kind]([{"text": text, "id": number, "label": 1} for number, text in enumerate(GIVEN)])
    found = RoutedTexts(run)(batch)
    assert type(found) is type(batch)
    table = found if kind == "arrow" else pa.table(found) if kind != "pandas" else pa.Table.from_pandas(found)
    assert table.column_names == ["text", "id", "input_label", *ANSWERS]
    assert table["id"].to_pylist() == list(range(40))
    check(table.to_pylist(), expected["None"])


def test_datasets_map_it_over_a_data_set(run: str, expected: dict[str, Any]) -> None:
    given = datasets.Dataset.from_dict({"text": GIVEN, "label": [0] * 40})
    found = given.map(RoutedTexts(run, batch_size=8), batched=True, batch_size=16)
    check(found.to_list(), expected["None"])
    assert found.column_names == ["text", "label", "input_label", *ANSWERS[1:]]


def test_rows_without_a_text_are_told(run: str, expected: dict[str, Any]) -> None:
    rows = [{"text": text} for text in (GIVEN[0], None, " ", GIVEN[1])]
    with pytest.raises(ValueError, match=r"row 1 of the batch: .*text.* is null; on_error='skip' goes on"):
        RoutedTexts(run)(pa.Table.from_pylist(rows))
    found = RoutedTexts(run, on_error="skip")(pa.Table.from_pylist(rows)).to_pylist()
    assert [row["error"] and row["error"].split()[-1] for row in found] == [None, "null", "empty", None]
    assert [row["label"] is None for row in found] == [False, True, True, False]
    check([found[0], found[3]], expected["None"])
    all_bad = RoutedTexts(run, on_error="skip")(pa.Table.from_pylist(rows[1:3]))
    assert all_bad.schema == RoutedTexts(run, on_error="skip")(pa.Table.from_pylist(rows)).schema


def test_a_model_without_finite_answers_is_told(run: str) -> None:
    asked = RoutedTexts(run, on_error="skip")
    asked.predictor.engine.backend.read = lambda logits: np.full(tuple(logits.shape), np.nan, np.float32)
    (row,) = asked(pa.table({"text": ["film"]})).to_pylist()
    assert row["error"] == "the model's answer to it is not finite"
    assert row["label"] is row["macs"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ["a", "b"]}, r"names 2 columns, this model reads 1: sentence"),
        ({"point": "none"}, "point=none: this model has no such operating point"),
        ({"on_error": "stop"}, "on_error=stop is unknown; choose one of: fatal, skip"),
        ({"half": 1}, "passes=2 needs an operating point of a cascade"),
        ({"half": 1, "point": "half", "text": "label"}, "text=label: an answer has a column of this name; passes=2"),
        ({"half": 1, "point": "half", "text": "p_positive"}, "text=p_positive: an answer has a column of this name"),
        ({"batchsize": 3}, "there is no argument batchsize; the options are batch_size, "),
    ],
)
def test_what_does_not_fit_is_told_before_the_model_loads(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    add_point(tiny_run / "model", [0.5])
    monkeypatch.setattr(RoutedPredictor, "of", None)
    with pytest.raises(ValueError, match=message):
        RoutedTexts(str(tiny_run), **options)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray on this machine, with room for four workers."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path.cwd()))  # the workers' too
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()


def rows(number: int) -> list[dict[str, Any]]:
    return [{"id": at, "text": GIVEN[at % 40], "label": 7} for at in range(number)]


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_actors_answer_every_row_once(cluster: Any, run: str, expected: Any) -> None:
    given = cluster.data.from_items(rows(300), override_num_blocks=6)
    found = answer_dataset(given, run, actors=2, rows=32, batch_tokens=200).take_all()
    assert sorted(row["id"] for row in found) == list(range(300))
    assert {row["input_label"] for row in found} == {7}
    check(found, expected["None"])
    with pytest.raises(ValueError, match="the data set has no column 'body'; it has id, text, label"):
        answer_dataset(given, run, "body")
    with pytest.raises(ValueError, match="passes=3: give 1, or 2"):
        answer_dataset(given, run, passes=3)
    for key in ("label", "p_maybe"):
        renamed = given.rename_columns({"label": key}) if key != "label" else given
        with pytest.raises(ValueError, match=f"key={key}: an answer has a column of this name"):
            answer_dataset(renamed, run, key=key)
    with pytest.raises(ValueError, match="there is no argument half"):
        answer_dataset(given, run, half=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cascade_in_two_passes_leaves_the_columns_and_the_order_of_one(cluster: Any, run: str, expected: Any) -> None:
    made = [*rows(200), {"id": 200, "text": None, "label": 7}]
    given = cluster.data.from_items(made, override_num_blocks=4)
    options = {"key": "id", "rows": 32, "point": "half", "on_error": "skip"}
    found = answer_dataset(given, run, passes=2, **options).take_all()
    once = answer_dataset(given, run, **options).take_all()
    assert [list(row) for row in found] == [list(row) for row in once]
    assert [row["id"] for row in found] == list(range(201))
    check(found[:200], expected["half"], macs=False)
    more = [row["macs"] > other["macs"] for row, other in zip(found[:200], once[:200], strict=True)]
    assert more == [row["rung"] > 0 for row in found[:200]]
    assert any(more)
    assert not all(more)
    assert found[200]["error"] == once[200]["error"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_actor_loses_no_row_and_doubles_none(cluster: Any, run: str, expected: Any, tmp_path: Path) -> None:
    number, answers, killed = 4000, tmp_path / "answers", []
    found = answer_dataset(cluster.data.from_items(rows(number), override_num_blocks=40), run, actors=2, rows=50)

    def kill() -> None:
        while len(list(answers.glob("*.parquet"))) < 3:
            time.sleep(0.05)
        for entry in Path("/proc").glob("[0-9]*"):
            name = (entry / "cmdline").read_bytes() if (entry / "cmdline").exists() else b""
            if b"ray::" in name and b"RoutedTexts" in name:
                os.kill(int(entry.name), signal.SIGKILL)
                killed.append(entry.name)
                return

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found.write_parquet(str(answers))
    killer.join(30)
    assert len(killed) == 1
    table = pq.read_table(answers)
    assert sorted(table["id"].to_pylist()) == list(range(number))
    check(table.slice(0, 400).to_pylist(), expected["None"])
