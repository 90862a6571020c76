"""A saved model through the doors of transformers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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

ROOT = Path(__file__).parent.parent


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


LOAD = """
import sys
sys.path[:0] = {paths}
{first}
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
model = AutoModelForSequenceClassification.from_pretrained({folder!r}, **{options})
print(pipeline("text-classification", {folder!r}, **{options})("good film")[0]["score"])
print(type(model).__name__, model.device)
model.save_pretrained({again!r})
"""


def loaded(folder: Path, paths: list[str], first: str = "", **options: bool) -> subprocess.CompletedProcess[str]:
    """Load a folder in a process of its own, after the line ``first``."""
    code = LOAD.format(paths=paths, first=first, folder=str(folder), options=options, again=str(folder / "again"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HOME": str(folder / "home")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.parametrize(("first", "trusted"), [("", True), ("import sharcs_pl", False)], ids=["trusted", "imported"])
def test_auto_classes_load_a_folder(folder: Path, tmp_path: Path, first: str, trusted: bool) -> None:
    place = shutil.copytree(folder, tmp_path / "model")
    assert (place / "routed_model.py").read_text().count("\n") == 2
    done = loaded(place, [str(ROOT)], first, **({"trust_remote_code": True} if trusted else {}))
    assert done.returncode == 0, done.stderr
    score, name, _ = done.stdout.split()
    classify: Any = pipeline("text-classification", model=str(folder))
    assert (float(score), name) == (pytest.approx(classify("good film")[0]["score"]), "SharcsForSequenceClassification")
    assert sorted(path.name for path in (place / "again").iterdir()) == [
        "config.json", "model.safetensors", "routed_model.py",
    ]  # fmt: skip


def test_without_the_package_the_error_names_it(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "model")
    code = "import sys; sys.modules['sharcs_pl'] = None"
    done = loaded(place, [str(ROOT)], code, trust_remote_code=True)
    assert done.returncode != 0
    assert "sharcs_pl" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_another_kind_than_the_models_are_refused(kind: str) -> None:
    stock, tokens = tiny_bert(num_labels=3), torch.ones(2, 4, dtype=torch.long)
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    model = KINDS[kind](stock)
    with pytest.raises(ValueError, match=r'several labels per text.*problem_type="multi_label_classification"'):
        model(tokens, labels=several)
    model.config.problem_type = "multi_label_classification"
    assert model(tokens, labels=several).loss.isfinite()
    with pytest.raises(ValueError, match=r"shape \(2,\): .* give 0 or 1 for each label"):
        model(tokens, labels=torch.tensor([0, 1]))
    assert KINDS[kind](stock, problem_type="multi_label_classification").kind.multi_label
    with pytest.raises(ValueError, match="problem_type=regression does not fit 3 outputs"):
        KINDS[kind](stock, problem_type="regression")
