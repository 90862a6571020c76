"""A folder of results may hold the user's files: they are named, and stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharcs_pl.core.written import LIST, Written


def test_what_was_written_may_be_written_again_and_nothing_else(tmp_path: Path) -> None:
    listed = Written.into(tmp_path / "out")
    listed.claim(["a.json", "figures/b.png"])
    assert listed.names() == {"a.json", "figures/b.png"}
    (tmp_path / "out/a.json").write_text("")
    listed.claim(["a.json", "c.csv"])
    assert listed.names() == {"a.json", "c.csv", "figures/b.png"}
    (tmp_path / "out/figures").mkdir()
    (tmp_path / "out/figures/d.png").write_text("the user's")
    (tmp_path / "out/figures/b.png").write_text("")
    listed.claim(["figures/b.png"])
    with pytest.raises(ValueError, match=r"output=.*out: .*out/figures/d.png is there and was not written by this com"):
        listed.claim(["figures/d.png", "e.csv"])
    assert "e.csv" not in listed.names()


def test_what_is_removed_is_listed_no_longer(tmp_path: Path) -> None:
    listed = Written.into(tmp_path)
    listed.add(["a.json", "b.json"])
    (tmp_path / "a.json").touch()
    listed.remove([])
    listed.remove(["a.json"])
    assert listed.names() == {"b.json"}
    assert {path.name for path in tmp_path.iterdir()} == {LIST}
    listed.remove(["b.json"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere", "file in a folder's place"])
def test_whatever_takes_a_name_is_the_users(tmp_path: Path, kind: str) -> None:
    name = "a/b.json"
    (tmp_path / "a").mkdir()
    if kind == "file":
        (tmp_path / name).touch()
    elif kind == "folder":
        (tmp_path / name).mkdir()
    elif kind == "link to nowhere":
        (tmp_path / name).symlink_to("nowhere")
    else:
        (tmp_path / "a").rmdir()
        (tmp_path / "a").touch()
    with pytest.raises(ValueError, match="is there and was not written by this command; move it away, or give another"):
        Written.into(tmp_path).check([name])


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": [3]}'])
def test_a_damaged_list_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / LIST).write_text(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/{LIST} is damaged"):
        Written.into(tmp_path).names()


def test_a_list_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(json.dumps({"files": ["../a", "/etc/passwd", "b"]}))
    assert Written.into(tmp_path).names() == {"b"}
