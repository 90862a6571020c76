"""A routed model of one score as the CrossEncoder of sentence-transformers, a reranker of pairs of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.conftest import tiny_bert
from tests.models.surgery import surgery

pytest.importorskip("sentence_transformers")

QUERY, TEXTS = "a good film", ["the film is bad", "a very warm and good film", "dull", "good " * 60]
PAIRS = [(QUERY, text) for text in TEXTS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = word_tokenizer()
    model = surgery(tiny_bert(num_labels=1, vocab_size=len(tokenizer)))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def reranker(folder: Path) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu")


@torch.no_grad()
def test_it_predicts_and_ranks(folder: Path) -> None:
    client, tokenizer = reranker(folder), word_tokenizer()
    found = client.predict(PAIRS)
    model = SharcsForSequenceClassification.from_pretrained(folder)
    first, second = map(list, zip(*PAIRS, strict=True))
    given = tokenizer(first, second, truncation=True, max_length=32, padding=True, return_tensors="pt")
    expected = model(**given).logits[:, 0].sigmoid().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)  # the last text is longer than the encoder reads
    assert [row["corpus_id"] for row in client.rank(QUERY, TEXTS)] == list(np.argsort(-expected))


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_it_trains_saves_and_loads(folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    client = reranker(folder)
    before = client.predict(PAIRS)
    rows = Dataset.from_dict({"query": [QUERY] * 4, "text": TEXTS, "label": [1.0, 0.0, 1.0, 0.0]})
    options = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=10, learning_rate=0.01, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    with pytest.warns(UserWarning, match="does not train the router"):
        CrossEncoderTrainer(client, options, rows, loss=BinaryCrossEntropyLoss(client)).train()
    after = client.predict(PAIRS)
    assert (after - before) @ np.array([1, -1, 1, -1]) > 0.1
    client.save_pretrained(str(tmp_path / "saved"))
    again = reranker(tmp_path / "saved")
    assert isinstance(again.model, SharcsForSequenceClassification)
    np.testing.assert_array_equal(again.predict(PAIRS), after)
