from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from sharcs_pl.models import locate as module
from sharcs_pl.models.locate import local_folder, locate

CONFIG = {
    "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"w": np.zeros(4, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def test_a_folder_tells_its_sizes(folder: Path) -> None:
    found = locate(str(folder))
    assert (found.source, found.sizes.layers, found.sizes.max_tokens) == (str(folder), 2, 32)
    assert found.weight_bytes == (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("name", ["./x", "/x", "~/x", "a/b/c"])
def test_what_looks_like_a_path_is_never_asked_of_the_hub(name: str) -> None:
    assert local_folder(name) == Path(name).expanduser()
    with pytest.raises(ValueError, match="is not a folder"):
        locate(name)


def test_a_package_names_a_folder_inside_it() -> None:
    assert str(local_folder("pkg:sharcs_pl/core")).endswith("sharcs_pl/core")
    with pytest.raises(ValueError, match="pip install no-such-thing"):
        local_folder("pkg:no_such_thing/model")


def test_without_the_hub_the_cached_copy_is_read_as_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = str(folder / "config.json")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: cached)
    assert locate("some/model").source == str(folder)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ValueError, match=r"some/model is no folder here and not in the local.*HF_HUB_OFFLINE is set"):
        locate("some/model")


def test_with_the_hub_its_config_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_unreachable_model", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, file: str(folder / file))
    found = locate("some/model")
    assert (found.source, found.sizes.hidden, found.weight_bytes) == ("some/model", 8, 0)


def test_a_name_the_hub_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a folder nor a hub id"):
        locate("what is this?")
