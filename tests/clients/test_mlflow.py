"""A routed model behind a tokenizer in MLflow's flavour of transformers: log, load, predict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import folder as folder  # a fixture

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

TEXTS = ["good film", "the film is very bad"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store, which no later test finds in the environment."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a data base needs more than mlflow-skinny
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.usefixtures("store")
def test_it_logs_loads_and_predicts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow.transformers")
    monkeypatch.chdir(tmp_path)
    classify: Any = pipeline("text-classification", model=str(folder))
    with mlflow.start_run():
        logged = mlflow.transformers.log_model(classify, name="model", pip_requirements=[])
    loaded = mlflow.transformers.load_model(logged.model_uri)
    assert isinstance(loaded.model, SharcsForSequenceClassification)
    assert loaded(TEXTS) == classify(TEXTS)
    rows = mlflow.pyfunc.load_model(logged.model_uri).predict(TEXTS).to_dict("records")
    assert rows == classify(TEXTS)
