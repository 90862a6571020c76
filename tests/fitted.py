"""Runs on the embedded task or on files of texts, and the evaluation of what was trained."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.data.synthetic import graded_examples
from sharcs_pl.evaluate import run
from tests.conftest import TINY, train_run


def evaluate(source: Path, **options: Any) -> dict[str, Any] | None:
    nested = OmegaConf.merge(OmegaConf.structured(EvaluateConfig), {"run": str(source), **options})
    config = OmegaConf.to_object(nested)
    assert isinstance(config, EvaluateConfig)
    return run(config)


def fit(directory: Path, *overrides: str) -> dict[str, Any]:
    metrics = train_run(directory, *overrides)
    return {key: value for key, value in metrics.items() if key not in ("epochs", "steps")}


def write_csv(path: Path, texts: list[str], labels: list[Any]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("review", "stars"), *zip(texts, labels, strict=True)])


def own_files(folder: Path, label: Callable[[int, str], Any]) -> list[str]:
    examples = graded_examples("train", size=80, seed=2)
    texts = [f"{text}" for (text,) in examples.texts]
    labels = [label(int(y), text) for y, text in zip(examples.labels, texts, strict=True)]
    write_csv(folder / "a.csv", texts, labels)
    write_csv(folder / "t.csv", texts[:10], labels[:10])
    return [
        *(text for text in TINY if not text.startswith(("task.", "encoder."))),
        "task=custom", f"task.train={folder}/a.csv", "task.dev=0.3", "task.text=review", "task.label=stars",
        "encoder=custom", "task.max_length=32",
    ]  # fmt: skip
