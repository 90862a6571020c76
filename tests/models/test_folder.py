from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sharcs_pl.models.folder import check_folder, check_safetensors, check_zip, read_config, weight_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    save_file({"a": torch.ones(10, 3), "b": torch.ones(7)}, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path


def test_a_whole_folder_tells_the_bytes_of_its_weights(folder: Path) -> None:
    assert check_folder(folder) == (folder / "model.safetensors").stat().st_size
    assert read_config(folder) == {"model_type": "bert"}


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_what_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        check_folder(folder)


@pytest.mark.parametrize("installed", [False, True])
def test_a_tokenizer_that_needs_a_package_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr("sharcs_pl.models.folder.find_spec", lambda name: object() if installed else None)
    (folder / "spm.model").write_text("")
    check_folder(folder)
    (folder / "tokenizer.json").unlink()
    if installed:
        check_folder(folder)
        return
    with pytest.raises(ValueError, match=r"spm\.model only: pip install sentencepiece protobuf"):
        check_folder(folder)


def test_shards_must_all_be_there(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks two\.safetensors"):
        weight_files(folder)
    (folder / "two.safetensors").write_bytes((folder / "one.safetensors").read_bytes())
    assert [path.name for path in weight_files(folder)] == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize("keep", [0, 4, 8, 60, 250, -1])
def test_a_safetensors_file_cut_anywhere_is_damaged(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is damaged"):
        check_safetensors(path)


def test_noise_is_no_safetensors_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    for noise in (b"\0" * 400, b"\xff" * 400, (8).to_bytes(8, "little") + b"[1,2,3]}" + b"x" * 50):
        path.write_bytes(noise)
        with pytest.raises(ValueError, match="is damaged"):
            check_safetensors(path)


def test_a_flipped_byte_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"w": torch.arange(1000.0)}, path)
    check_zip(path, "begin again")
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(500.0, 504.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged.*begin again"):
        check_zip(path, "begin again")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        check_zip(path, "begin again")


def test_a_config_must_be_an_object(tmp_path: Path) -> None:
    for text, message in (("{", "not valid JSON"), ("[]", "no JSON object")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path)


def as_pickles(folder: Path, legacy: bool, parts: int) -> None:
    """The folder's weights as torch pickles them, in so many files."""
    weights = {"a": torch.ones(10, 3), "b": torch.ones(7)}
    (folder / "model.safetensors").unlink()
    if parts == 1:
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        return
    names = {key: f"pytorch_model-0000{i + 1}-of-00002.bin" for i, key in enumerate(weights)}
    for key, name in names.items():
        torch.save({key: weights[key]}, folder / name, _use_new_zipfile_serialization=not legacy)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_pickled_weights_whole_or_in_parts(folder: Path, legacy: bool, parts: int) -> None:
    as_pickles(folder, legacy, parts)
    files = weight_files(folder)
    assert len(files) == parts
    assert check_folder(folder) == sum(path.stat().st_size for path in files)
    files[-1].write_bytes(files[-1].read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is damaged.*download it again"):
        check_folder(folder)
    files[-1].unlink()
    with pytest.raises(ValueError, match="has no weights" if parts == 1 else "lacks pytorch_model-00002-of-00002.bin"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_a_part_lies_in_its_folder(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: a part=.* is no plain name"):
        weight_files(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": "a"}])
def test_a_list_of_no_parts(folder: Path, index: object) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="lacks every shard"):
        weight_files(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.fp16.safetensors", r"a variant of its weights only, model\.fp16.*call it model\.safetensors"),
        ("pytorch_model.fp16.bin", r"a variant of its weights only, .*call it pytorch_model\.bin"),
        ("model-00001-of-00002.safetensors", r"not the list of its parts, model\.safetensors\.index\.json"),
    ],
)
def test_weights_under_another_name_say_what_is_missing(folder: Path, name: str, message: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ValueError, match=message):
        weight_files(folder)
