"""Tiny models and data every test may use; nothing here needs a network."""

from __future__ import annotations

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: a test that needs the hub must fail at once
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also of every process that a test starts: the models are tiny

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hypothesis import settings
from omegaconf import DictConfig
from transformers import BertConfig, BertForSequenceClassification

from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.data.table import TokenTable
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.pipeline.fit import Composed, train
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.preflight import preflight
from tests.painting import brush
from tests.place import Place

settings.register_profile("quiet", deadline=None)  # a shared machine is slow at random
settings.load_profile("quiet")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--paint", action="store_true", help="paint the figures of every test, not of those marked so")


def pytest_configure(config: pytest.Config) -> None:
    """Workers of pytest-xdist take neighbouring tests, so that few of them repeat what a module's tests share."""
    if config.getoption("dist", None) == "load":  # its default under -n
        config.option.dist = "worksteal"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Also what fixtures of a module or session draw is painted, or not, as the test says that asks for them first."""
    marked = item.get_closest_marker("painted") or "analysis" in item.path.parts
    brush.painting = bool(item.config.getoption("--paint") or marked)
    return (yield)


TINY = (
    "task.train_size=48",
    "task.dev_size=24",
    "encoder.hidden_size=16",
    "encoder.num_layers=2",
    "encoder.intermediate_size=32",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "hardness.window=1",
    "trainer.max_epochs=3",
    "batch_size=8",
)
"""Overrides that make the default job take about a second."""


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same random numbers for every test, and a token cache of its own."""
    torch.manual_seed(0)
    monkeypatch.setenv("SHARCS_CACHE", str(tmp_path / "cache"))


@cache
def _store_schema() -> None:
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


def compose_config(*overrides: str) -> DictConfig:
    """The training config as ``train`` would get it, without Hydra's own keys."""
    _store_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def train_run(directory: Path, *overrides: str) -> dict[str, Any]:
    """Train as ``sharcs train`` does, in this process; returns what ``metrics.json`` holds."""
    cfg = compose_config(*overrides)
    config = run_config(cfg)
    ready = preflight(config, directory)
    silence_libraries()
    return train(ready, directory, Composed(cfg))


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with `TINY` and nothing else, which no test may change."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        train_run(folder / "run", *TINY)
    return folder / "run"


@pytest.fixture
def tiny_run(trained_once: Path, tmp_path: Path) -> Path:
    """``tmp_path/run``, a copy of that run."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))


def tiny_bert(num_labels: int = 2, **changes: Any) -> BertForSequenceClassification:
    """A random BERT: 3 layers, hidden 16, 4 heads."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "vocab_size": 50,
    }
    config = BertConfig(max_position_embeddings=32, **(sizes | changes))
    config.num_labels = num_labels
    return BertForSequenceClassification(config)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT in a folder, with the embedded task's tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(3)
    tokenizer = word_tokenizer()
    tiny_bert(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_model(num_labels: int = 2, widths: tuple[float, ...] = (0.25, 1.0)) -> SharcsForSequenceClassification:
    """The same after surgery, split after layer 1."""
    return SharcsForSequenceClassification.from_encoder(
        tiny_bert(num_labels), widths=list(widths), split_layer=1, num_labels=num_labels, router_hidden_size=8
    )


def random_table(size: int, *, seed: int = 0, num_labels: int = 2) -> TokenTable:
    """Random token ids in texts of 4 to 12 tokens, with labels and difficulty."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(4, 13, size))]).astype(np.int64)
    ids = rng.integers(5, 50, offsets[-1]).astype(np.int32)
    labels = rng.random(size).astype(np.float32) if num_labels == 1 else rng.integers(0, num_labels, size)
    return TokenTable(ids, None, offsets, 0, labels, rng.integers(0, 3, size).astype(np.int8))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work").mkdir()
    return Place(tmp_path / "work")
