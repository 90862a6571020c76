from __future__ import annotations

import os
import time
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from datasets import config

from sharcs_pl.data.hub import load_hub
from sharcs_pl.data.tasks import GLUE, load_examples


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of this test's own."""
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path / "datasets"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody said `offline`, but the hub cannot be reached, and may be asked once only."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionResetError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", lambda *_, **__: pytest.fail("asked again"))
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)


def write_dataset(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for split, texts in (("train", ["a", "b", "c"]), ("test", ["d"])):
        datasets.Dataset.from_dict({"text": texts, "label": [0] * len(texts)}).to_parquet(folder / f"{split}.parquet")
    return folder


def test_offline_on_purpose_the_answer_comes_at_once() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"nyu-mll/glue \(rte, train\).*task\.data_dir"):
        load_examples(GLUE["rte"], "train")
    assert time.monotonic() - start < 20


@pytest.mark.usefixtures("no_network")
def test_an_unreachable_hub_is_asked_once() -> None:
    with pytest.raises(ValueError, match=r"nyu-mll/glue \(rte, train\).*no route to host.*task\.data_dir"):
        load_hub("rte", "train")
    with pytest.raises(ValueError, match=r"task\.hub=someone/reviews \(train\).*no route to host.*task\.train=<file>"):
        load_hub(None, "train", "someone/reviews")
    assert config.HF_HUB_OFFLINE is False


@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_cache_answers(cache: Path, tmp_path: Path) -> None:
    load_hub(None, "train", str(write_dataset(tmp_path / "reviews")))
    (cache / "reviews").rename(cache / "someone___reviews")  # as if it had come from the hub
    assert load_hub(None, "train", "someone/reviews")["text"][:] == ["a", "b", "c"]
    assert config.HF_HUB_OFFLINE is False
    with pytest.raises(ValueError, match=r"someone/reviews \(dev\).*Unknown split.*'train', 'test'"):
        load_hub(None, "dev", "someone/reviews")


def test_a_local_folder_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: pytest.fail("asked the hub"))
    folder = write_dataset(tmp_path / "reviews")
    assert load_hub(None, "test", str(folder))["text"][:] == ["d"]
    assert load_hub(None, "train[1:]", str(folder))["text"][:] == ["b", "c"]
    with pytest.raises(ValueError, match=r"\(odd, train\) cannot be loaded.*'odd' not found.*\['default'\]"):
        load_hub("odd", "train", str(folder))
