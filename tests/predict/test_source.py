"""Where the model is that answers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from sharcs_pl.inference.trained import open_trained
from tests.predict.conftest import predict, saved, texts_of, write_texts


def test_a_model_on_the_hub_is_taken_from_its_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_texts(tmp_path / "in.jsonl", texts_of(5))
    predict(model, path, "local.jsonl")
    asked: list[str] = []

    def found(name: str, **_: Any) -> str:
        asked.append(name)
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", found)
    predict(Path("some/model"), path, "hub.jsonl")
    assert asked == ["some/model"]
    assert (tmp_path / "hub.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert open_trained("some/model", record_needed=False).home == tmp_path
    with pytest.raises(ValueError, match=r"has no training\.json"):
        open_trained("some/model")

    def unknown(*_: Any, **__: Any) -> Any:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # it cannot be made without an answer

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unknown)
    with pytest.raises(ValueError, match="run=some/model: there is no such folder, nor such a model on the hub; give"):
        open_trained("some/model")


def test_every_source_of_a_run_gives_its_own_answers(tiny_run: Path, tmp_path: Path) -> None:
    for source in ("", "checkpoints/best.ckpt", "model"):
        out = tmp_path / f"out{len(source)}.tsv"
        predict(tiny_run / source, tiny_run / "predictions.tsv", out, keep=["prediction", "rung", "macs"])
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert len(rows) == 24
        for row in rows:
            assert (row["label"], row["rung"], row["macs"]) == (row["prediction"], row["input_rung"], row["input_macs"])


def test_what_a_folder_without_a_record_reads_is_made_up_from_it(model: Path, tmp_path: Path) -> None:
    config = open_trained(str(model), record_needed=False).config
    assert (config.task.text_columns, config.task.max_length) == (["text"], 24)
    copy = saved(tmp_path / "copy")
    (copy / "tokenizer_config.json").unlink()
    assert open_trained(str(copy), record_needed=False).config.task.max_length == 32
