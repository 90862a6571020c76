"""A saved model through the doors of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from sharcs_pl import RoutedPredictor, SharcsForSequenceClassification
from sharcs_pl.data.synthetic import word_tokenizer
from tests.conftest import tiny_bert
from tests.inference.conftest import folder as folder  # a fixture
from tests.inference.made import texts
from tests.models.surgery import KINDS


def test_the_auto_class_gives_the_model(folder: Path) -> None:
    assert isinstance(AutoModelForSequenceClassification.from_pretrained(folder), SharcsForSequenceClassification)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_pipeline_gives_the_predictors_answers(folder: Path, batch_size: int) -> None:
    given = texts(30)
    classify = pipeline("text-classification", model=str(folder), batch_size=batch_size)
    found: Any = classify(given, truncation=True)
    expected = RoutedPredictor.from_pretrained(folder).predict(given)
    assert len({p.rung for p in expected}) == 3
    for mine, theirs in zip(expected, found, strict=True):
        assert theirs["label"] == mine.label
        assert theirs["score"] == pytest.approx(max(mine.probabilities), abs=1e-5)


def test_the_pipeline_follows_the_operating_point(folder: Path, tmp_path: Path) -> None:
    model: Any = SharcsForSequenceClassification.from_pretrained(folder)
    model.config.operating_points = {"narrow": {"thresholds": [-1e9, 0.0]}}
    model.set_operating_point("narrow")
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(tmp_path)
    classify: Any = pipeline("text-classification", model=str(tmp_path))
    (found,) = classify(["good film"], top_k=None)
    with torch.no_grad():
        expected = model(**tokenizer("good film", return_tensors="pt"), rungs=0).logits[0].softmax(-1)
    assert {row["label"]: row["score"] for row in found} == pytest.approx(
        {model.config.id2label[i]: value for i, value in enumerate(expected.tolist())}, abs=1e-6
    )


def test_a_regression_answers_its_score(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    stock = tiny_bert(num_labels=1, vocab_size=len(tokenizer))
    model = SharcsForSequenceClassification.from_encoder(stock, widths=[0.25, 1], split_layer=1, num_labels=1)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    classify: Any = pipeline("text-classification", model=str(tmp_path))
    with torch.no_grad():
        expected = model(**tokenizer("good film", return_tensors="pt")).logits.item()
    assert classify("good film")[0]["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("num_labels", "found"), [(None, "multi"), (3, "single")], ids=["kept", "new"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_task_has_its_own_problem_type(kind: str, num_labels: int | None, found: str) -> None:
    stock = tiny_bert(num_labels=3)
    stock.config.problem_type = "multi_label_classification"
    assert KINDS[kind](stock, num_labels=num_labels).config.problem_type == f"{found}_label_classification"
