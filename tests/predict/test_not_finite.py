"""A text whose answer is NaN or infinite has no answer: an error that names its row, or a row of the rejected ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.data.formats import write_rows
from tests.inference.conftest import WORDS
from tests.predict.conftest import lines, names, predict, write_texts

TEXTS = ["good", "bad good", "film", "very bad", "not film", "the"]
WORD = "film"


@pytest.fixture(scope="module")
def brittle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with finite weights, one of whose words overflows."""
    assert WORD in WORDS
    folder = tmp_path_factory.mktemp("brittle") / "model"
    shutil.copytree(model, folder)
    found = SharcsForSequenceClassification.from_pretrained(folder)
    word = RoutedPredictor.from_pretrained(folder).tokenizer.vocab[WORD]
    with torch.no_grad():
        found.get_input_embeddings().weight[word] = 3e38  # pyright: ignore[reportIndexIssue, reportArgumentType]
    found.save_pretrained(folder)
    return folder


def spoiled(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    found = SharcsForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        next(found.tails.parameters()).view(-1)[0] = torch.nan
    found.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mode", ["batch", "stream"])
def test_the_row_is_named_and_no_output_is_written(brittle: Path, tmp_path: Path, mode: str) -> None:
    path = write_texts(tmp_path / "in.jsonl", TEXTS)
    with pytest.raises(ValueError, match=r"in.jsonl, line 3: the model's answer to it is not finite; on_error=skip"):
        predict(brittle, path, tmp_path / "out.jsonl", mode=mode)
    assert not (tmp_path / "out.jsonl").exists()
    summary = predict(brittle, path, tmp_path / "out.jsonl", mode=mode, on_error="skip", resume=True)
    assert (summary.rows, summary.rejected) == (6, 2)


@pytest.mark.parametrize("mode", ["batch", "stream"])
def test_the_other_rows_are_answered_as_without_them(model: Path, brittle: Path, tmp_path: Path, mode: str) -> None:
    path = write_texts(tmp_path / "in.jsonl", TEXTS)
    summary = predict(brittle, path, tmp_path / "out.jsonl", mode=mode, on_error="skip", batch_size=2)
    assert (summary.rows, summary.rejected) == (6, 2)
    found = lines(tmp_path / "out.jsonl")
    good = write_texts(tmp_path / "good.jsonl", [text for text in TEXTS if WORD not in text])
    predict(model, good, tmp_path / "want.jsonl", mode=mode, batch_size=2)
    want = lines(tmp_path / "want.jsonl")
    assert [row["row"] for row in found] == [1, 2, 4, 6]
    assert [(row["label"], row["rung"]) for row in found] == [(row["label"], row["rung"]) for row in want]
    rejected = lines(tmp_path / "out.rejected.jsonl")
    assert [(row["row"], row["place"]) for row in rejected] == [(3, "in.jsonl, line 3"), (5, "in.jsonl, line 5")]
    assert "not finite" in rejected[0]["error"]


def test_python_raises_at_the_text_or_marks_it(brittle: Path) -> None:
    predictor = RoutedPredictor.from_pretrained(brittle)
    for answers in (lambda: predictor.predict(TEXTS), lambda: list(predictor.stream(TEXTS))):
        with pytest.raises(ValueError, match="text 2: the model's answer to it is not finite"):
            answers()
    for found in (predictor.try_predict(TEXTS), list(predictor.try_stream(TEXTS))):
        assert [answer is None for answer in found] == [False, False, True, False, True, False]


def test_weights_that_are_none_are_refused_before_a_row_is_answered(model: Path, tmp_path: Path) -> None:
    bad = spoiled(model, tmp_path / "bad")
    path = write_texts(tmp_path / "in.jsonl", TEXTS)
    with pytest.raises(ValueError, match=r"run=.*bad holds NaN in its weights \(tails"):
        predict(bad, path, tmp_path / "out.jsonl", on_error="skip")
    assert names(tmp_path) == ["bad", "in.jsonl"]
    with pytest.raises(ValueError, match="bad holds NaN in its weights"):
        RoutedPredictor.from_pretrained(bad)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_json_holds_null_for_a_number_carried_along_that_is_none(model: Path, tmp_path: Path, suffix: str) -> None:
    nan = float("nan")
    rows = {"text": ["good", "bad"], "score": [nan, 1.5], "both": [[nan, 1.0], [2.0]]}
    path = write_rows(tmp_path / "in.parquet", rows)
    predict(model, path, tmp_path / f"out{suffix}", keep=["score", "both"])
    if suffix == ".parquet":
        scores = pq.read_table(tmp_path / "out.parquet")["score"].to_pylist()
        assert scores[0] != scores[0]
        assert scores[1] == 1.5
        return
    text = (tmp_path / f"out{suffix}").read_text()
    if suffix == ".csv":
        assert ',NaN,"[null, 1.0]",' in text
        return
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in text.splitlines())
    assert (first["score"], first["both"]) == (None, [None, 1.0])
    assert (second["score"], second["both"]) == (1.5, [2.0])
