"""A run directory, a checkpoint and a saved model of an earlier version are still read, and the run is gone on with.

``fixtures/older_run`` was written by ``sharcs train`` with `OPTIONS`, before what is fixed about a method left its
config and before the package had its present modules.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.evaluate import run as evaluate
from sharcs_pl.models.folder import read_json
from sharcs_pl.predict import run as predict
from tests.conftest import TINY, train_run

OPTIONS = (*TINY, "trainer.max_steps=5")  # of 9: the checkpoint is one of an open epoch
PLACES = ("", "model", "checkpoints/last.ckpt")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return shutil.copytree(Path(__file__).parent / "fixtures" / "older_run", tmp_path / "older_run")


def predictions(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def approx(metrics: dict[str, Any], key: str) -> Any:
    found = metrics[key]
    return pytest.approx(found, rel=1e-4) if isinstance(found, dict) else [pytest.approx(x, rel=1e-4) for x in found]


@pytest.mark.parametrize("place", PLACES)
def test_it_evaluates_as_it_did(older: Path, tmp_path: Path, place: str) -> None:
    kept = read_json(older / "metrics.json")
    found = evaluate(EvaluateConfig(run=str(older / place), output=str(tmp_path / "out")))
    assert found is not None
    assert found["routed"] == approx(kept, "routed")
    assert found["rungs"] == approx(kept, "rungs")


@pytest.mark.parametrize("place", PLACES)
def test_it_predicts_as_it_did(older: Path, tmp_path: Path, place: str) -> None:
    expected = predictions(older / "predictions.tsv")
    out = tmp_path / "out.tsv"
    predict(PredictConfig(run=str(older / place), input=str(older / "predictions.tsv"), output=str(out)))
    assert [(row["label"], row["rung"], row["macs"]) for row in predictions(out)] == [
        (row["prediction"], row["rung"], row["macs"]) for row in expected
    ]


def test_it_is_gone_on_with(older: Path, tiny_run: Path) -> None:
    train_run(older, *TINY, "ckpt_path=last")
    assert (older / "plan.csv").read_text() == (tiny_run / "plan.csv").read_text()
    one, other = (pq.read_table(path / "history.parquet").to_pydict() for path in (older, tiny_run))
    scores = [name for name in one if name.startswith("score")]
    assert list(one) == list(other)
    for name in one:
        assert one[name] == (pytest.approx(other[name], abs=1e-3) if name in scores else other[name]), name
