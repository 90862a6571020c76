from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sharcs_pl.analysis.comparison.chance import Chance
from sharcs_pl.analysis.comparison.runs import RunResult, read_run
from tests.analysis.comparison.made_runs import make_run

TRUTH = [["a"], ["a", "b"], [], ["b"]] * 10


def labelled_run(folder: Path, predictions: list[list[str]]) -> RunResult:
    """A made run whose answers are lists of the labels a and b."""
    make_run(folder, metric="micro_f1", settings={"task": {"name": "custom", "labels": ["a", "b"]}})
    with (folder / "predictions.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["uid", "label", "prediction", "confidence", "rung", "macs", "text"])
        for uid, (truth, found) in enumerate(zip(TRUTH, predictions, strict=True)):
            writer.writerow([uid, json.dumps(truth), json.dumps(found), "0.9", 0, 1, f"text {uid}"])
    return read_run(folder)


def test_answers_of_several_labels_are_compared_by_their_f1(tmp_path: Path) -> None:
    perfect = labelled_run(tmp_path / "one", TRUTH)
    half = labelled_run(tmp_path / "two", [names[:1] for names in TRUTH])  # the second of two labels is missed
    chance = Chance([perfect, half], draws=200, seed=1)
    found = chance.versus("two", [perfect], [half])
    assert found is not None
    assert found.interval is not None
    assert found.difference == pytest.approx(1 - 2 * 30 / (40 + 30))
    assert found.interval[0] > 0


def test_the_best_constant_answer_gives_both_labels(tmp_path: Path) -> None:
    run = labelled_run(tmp_path / "one", TRUTH)
    assert Chance([run], 200, 1).constant(run) == pytest.approx(2 * 40 / (40 + 80))
