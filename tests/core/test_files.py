from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.core.files import atomic_file, atomic_folder, write_text


def test_text_appears_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "{é}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == "{é}".encode()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(TypeError), atomic_file(tmp_path / "a") as part:
        [part.write_text(half) for half in ("ne", 3)]  # pyright: ignore[reportArgumentType]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "old").write_text("1")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "model") as folder:
        [(folder / "new").mkdir() for _ in range(2)]
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "new").write_text("2")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


def test_with_a_list_of_its_own_names_a_folder_keeps_the_others(tmp_path: Path) -> None:
    model = tmp_path / "model"
    with atomic_folder(model, []) as folder:
        [write_text(folder / name, "1") for name in ("config.json", "old", "both")]
    write_text(model / "mine", "mine")
    with pytest.raises(KeyError), atomic_folder(model, ["config.json", "old", "both"]) as folder:
        _ = [write_text(folder / "new", "2"), {}["an error"]]
    assert sorted(path.name for path in model.iterdir()) == ["both", "config.json", "mine", "old"]
    with atomic_folder(model, ["config.json", "old", "both"]) as folder:
        [write_text(folder / name, "2") for name in ("config.json", "new", "both")]
    found = {path.name: path.read_text() for path in model.iterdir()}
    assert found == {"config.json": "2", "new": "2", "both": "2", "mine": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
