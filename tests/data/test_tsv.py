from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.data.tsv import TsvFile


def file_of(folder: Path, content: str | bytes) -> TsvFile:
    path = folder / "train.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return TsvFile(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    file = file_of(tmp_path, end.join(["a\tb", 'grün "\t1', "x\u2028y\t2", ""]).encode(encoding))
    assert file.header == ["a", "b"]
    assert list(file.rows(["b", "a"])) == [(2, ["1", 'grün "']), (3, ["2", "x\u2028y"])]
    assert file.left_out is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a\tb\n1\t2\n", None),
        ("a\tb\n1\t2", None),
        ("a\tb\n\n1\t2\n", "1 blank line"),
        ("a\tb\n1\t2\n\n\n", "2 blank lines"),
        ("a\tb\n1\n1\t2\n", "1 too short line"),
        ("a\tb\n1\n\n1\t2\n2\n", "1 blank and 2 too short lines"),
    ],
)
def test_what_is_left_out_is_counted(content: str, told: str | None, tmp_path: Path) -> None:
    file = file_of(tmp_path, content)
    assert [cells for _, cells in file.rows(["a"], skip_short=True)] == [["1"]]
    assert file.left_out == told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbfab\n\n\xff\xfe\n\xff", "line 3: not UTF-8 at byte 7 of the file; the official files are UTF-8"),
        ("a\tb\n".encode("utf-16") + b"\x00\xdc\x00\xdc", "line 2: not utf-16-le; the official files are UTF-8"),
    ],
)
def test_what_does_not_decode_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        file_of(tmp_path, content)
    assert str(caught.value) == f"{tmp_path / 'train.tsv'}, {message}"
