from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharcs_pl.data.seen import count_seen, hash_texts, load_seen, save_seen

TEXTS = [("a",), ("b",), ("a", "b"), ("ab", ""), ("", "ab"), ("a",), ("\ud800",), ("é" * 1000,)]


def test_equal_texts_and_only_those_have_equal_hashes() -> None:
    found = hash_texts(TEXTS)
    assert found.dtype == np.uint64
    assert len(set(found.tolist())) == len(set(TEXTS))
    assert found[0] == found[5] == hash_texts([("a",)])[0] == 1299237171467471186  # the same on every machine


def test_each_is_kept_once_in_eight_bytes(tmp_path: Path) -> None:
    save_seen(tmp_path / "seen.npy", hash_texts(TEXTS * 50))
    seen = load_seen(tmp_path / "seen.npy")
    assert len(seen) == len(set(TEXTS))
    assert (tmp_path / "seen.npy").stat().st_size == 128 + 8 * len(seen)
    assert count_seen(seen, [("a",), ("new",), ("a",), ("b", "a")]) == 2
    assert count_seen(seen, []) == 0


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nothing of the kind"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seen.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"seen.npy is damaged"):
        load_seen(tmp_path / "seen.npy")
    np.save(tmp_path / "seen.npy", np.zeros(3))
    with pytest.raises(ValueError, match="holds no hashes"):
        load_seen(tmp_path / "seen.npy")
