from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.data.tasks import Examples, TaskSpec
from sharcs_pl.pipeline.results import load_best, write_predictions
from tests.conftest import tiny_model
from tests.evaluation.made import COST, predictions

TASK = TaskSpec("own", ("text", "label"), "y", ("bad", "good"), ("accuracy",))
TEXTS = ['a "quoted" text', "a\ttab", "two\nlines\r\nor three", "a lone\rreturn", "שלום 😀 " + "long " * 2000]
EXAMPLES = Examples([(text, "x") for text in TEXTS], np.zeros(5, np.int64))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_predictions_carry_the_routed_answer_and_its_cost(tmp_path: Path) -> None:
    found = predictions()
    write_predictions(tmp_path / "p.tsv", found, COST, TASK, EXAMPLES)
    written = rows(tmp_path / "p.tsv")
    assert [row["prediction"] for row in written] == ["good", "good", "bad", "bad", "good"]
    assert [row["rung"] for row in written] == ["0", "0", "0", "1", "1"]
    assert [row["text"] for row in written] == TEXTS
    assert written[0]["label"] in ("bad", "good")
    assert written[0]["text_label"] == "x"  # the column "label" is taken by the answer
    macs = COST.rung_macs(found.lengths.numpy())
    assert [int(row["macs"]) for row in written] == [macs[i, rung] for i, rung in enumerate(found.rungs.tolist())]
    assert float(written[0]["confidence"]) == pytest.approx(torch.tensor([0.0, 1.0]).softmax(0)[1].item(), abs=1e-4)


def test_a_regression_writes_numbers(tmp_path: Path) -> None:
    values = replace(predictions(), logits=torch.full((5, 2, 1), 2.5), labels=torch.full((5,), 3.2))
    write_predictions(tmp_path / "p.tsv", values, COST, replace(TASK, labels=None), EXAMPLES)
    assert rows(tmp_path / "p.tsv")[0] | {"macs": ""} == {
        "uid": "0", "label": "3.2", "prediction": "2.5000", "confidence": "", "rung": "0", "macs": "",
        "text": TEXTS[0], "text_label": "x",
    }  # fmt: skip


def test_the_best_weights_are_loaded_where_there_are_any(tmp_path: Path) -> None:
    module, best = torch.nn.Module(), torch.nn.Module()
    module.model, best.model = tiny_model(), tiny_model()
    run: Any = SimpleNamespace(module=module)
    before = module.state_dict()["model.router.dense.weight"].clone()
    assert not load_best(run, tmp_path / "best.ckpt")
    torch.testing.assert_close(module.state_dict()["model.router.dense.weight"], before)
    torch.save({"state_dict": best.state_dict()}, tmp_path / "best.ckpt")
    assert load_best(run, tmp_path / "best.ckpt")
    for name, value in best.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value)
