"""A saved routed model, texts for it, and the command in this process and in one of its own."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.core.decision import NEVER
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.summary import Summary
from sharcs_pl.predict import run
from tests.conftest import tiny_bert
from tests.data.formats import write_rows
from tests.inference.conftest import WORDS, spread_router
from tests.models.surgery import surgery

POINTS = {"narrow": {"thresholds": [-NEVER, -NEVER]}, "top": {"thresholds": [NEVER, NEVER]}}


def saved(folder: Path, num_labels: int = 3) -> Path:
    tokenizer = word_tokenizer()
    torch.manual_seed(1)
    source = tiny_bert(num_labels=num_labels, vocab_size=len(tokenizer))
    if num_labels == 3:
        source.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
    model = surgery(source)
    spread_router(model)
    model.config.operating_points = POINTS
    model.save_pretrained(folder)
    tokenizer.model_max_length = 24
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved routed BERT of three classes without the record of a run; its router uses all three rungs."""
    return saved(tmp_path_factory.mktemp("predicted") / "model")


def texts_of(number: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(1, 30))) for _ in range(number)]


def write_texts(path: Path, texts: Sequence[Any], **columns: Sequence[Any]) -> Path:
    return write_rows(path, {"text": texts, **columns})


def config_of(model: Path, source: Any, output: Any, **options: Any) -> PredictConfig:
    given = source if isinstance(source, list) else str(source)
    keys = {"run": str(model), "input": given, "output": str(output), **options}
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PredictConfig), keys))
    assert isinstance(config, PredictConfig)
    return config


def predict(model: Path, source: Any, output: Any, **options: Any) -> Summary:
    return run(config_of(model, source, output, **options))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def command(model: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "sharcs_pl.predict", f"run={model}", *overrides]
