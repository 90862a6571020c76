from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.models.legacy import check_legacy, is_legacy
from tests.conftest import tiny_bert


def write(path: Path, weights: Any) -> bytes:
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


def test_a_whole_file_of_every_type_passes(path: Path) -> None:
    numbers = torch.arange(10)
    types = [
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    ]
    weights = {str(kind): numbers.to(kind) for kind in types} | dict(tiny_bert().state_dict())
    weights |= {
        "shared": numbers[2:5],
        "again": numbers,
        "own": torch.nn.Parameter(torch.ones(2)),
        "none": torch.ones(0),
    }
    write(path, weights)
    assert is_legacy(path)
    check_legacy(path, "again")
    torch.save(weights, path)
    assert not is_legacy(path)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_a_file_cut_anywhere_is_damaged(path: Path, share: float) -> None:
    content = write(path, tiny_bert().state_dict())
    for kept in (content[: int(share * len(content))], content[:-1], content + b"x"):
        path.write_bytes(kept)
        with pytest.raises(ValueError, match=r"pytorch_model\.bin is damaged.*; again$"):
            check_legacy(path, "again")


def test_nothing_in_it_is_executed(path: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "boom",))

    write(path, {"a": torch.ones(3), "b": Bomb()})
    check_legacy(path, "again")
    first = path.read_bytes().index(b".") + 1
    path.write_bytes(path.read_bytes()[:first] + pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="is damaged"):
        check_legacy(path, "again")
    assert not (tmp_path / "boom").exists()
