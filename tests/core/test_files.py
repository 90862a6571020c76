from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.core.files import whole_file, whole_folder, write_text


def test_text_appears_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "{é}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == "{é}".encode()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(TypeError), whole_file(tmp_path / "a") as part:
        [part.write_text(half) for half in ("ne", 3)]  # pyright: ignore[reportArgumentType]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "model") as folder:
        (folder / "old").write_text("1")
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "model") as folder:
        [(folder / "new").mkdir() for _ in range(2)]
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]
    with whole_folder(tmp_path / "model") as folder:
        (folder / "new").write_text("2")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]
