"""What an interrupted prediction leaves, and what it goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.inference import journal as module
from sharcs_pl.inference.journal import Journal, Record, begun_with, check_fingerprint, difference, journal_path

FINGERPRINT = {"model": "abc", "point": None, "input": {"path": "a", "size": 3}, "text": ("a", "b")}
RECORDS: list[Record] = [
    [number, "f, line 3", "bad"] if number % 3 == 0 else {"row": number, "label": "é\n", "p": 0.25}
    for number in range(1, 8)
]


def write(path: Path) -> bytes:
    with Journal.begin(path, FINGERPRINT) as journal:
        for record in RECORDS:
            journal.add(record)
    return path.read_bytes()


def test_rows_come_back_in_order_while_it_is_written(tmp_path: Path) -> None:
    with Journal.begin(tmp_path / "j", FINGERPRINT) as journal:
        for number, record in enumerate(RECORDS):
            journal.add(record)
            assert list(journal.records()) == RECORDS[: number + 1]
        assert journal.rows == len(RECORDS)
        journal.remove()
    assert not (tmp_path / "j").exists()
    assert journal_path(tmp_path / "a.csv") == tmp_path / "a.csv.part"


def test_cut_at_any_byte_it_goes_on_from_the_last_whole_segment(tmp_path: Path) -> None:
    path = tmp_path / "j"
    content = write(path)
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(ends[0], len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends) - 1
        with Journal.resume(path, FINGERPRINT, 2) as journal:
            assert journal.rows == whole // 2 * 2, cut
            for record in RECORDS[journal.rows :]:
                journal.add(record)
        assert path.read_bytes() == content


def test_what_a_journal_was_begun_with_unless_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "j"
    assert begun_with(path) is None
    content = write(path)
    begun = begun_with(path)
    assert begun is not None
    assert difference(begun, FINGERPRINT) is None
    assert difference(begun, FINGERPRINT | {"point": "fast"}) == "another point: it was None, now it is 'fast'"
    assert difference({}, FINGERPRINT) == "another model: it was None, now it is 'abc'"
    for cut in range(content.index(b"\n") + 1):
        path.write_bytes(content[:cut])
        assert begun_with(path) is None
    for mine in (b"mine\n", b"[1]\n{}\n"):
        path.write_bytes(mine)
        with pytest.raises(ValueError, match=r"j is no record of an interrupted prediction; move it away"):
            begun_with(path)


def test_a_line_that_is_no_json_ends_it_as_a_torn_one_does(tmp_path: Path) -> None:
    path = tmp_path / "j"
    lines = write(path).splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"\x00\x00\n", *lines[4:]]))
    with Journal.resume(path, FINGERPRINT, 1) as journal:
        assert list(journal.records()) == RECORDS[:3]


def test_without_one_a_new_one_is_begun_and_without_resume_an_old_one_is_replaced(tmp_path: Path) -> None:
    with Journal.resume(tmp_path / "j", FINGERPRINT, 2) as journal:
        assert journal.rows == 0
    assert json.loads((tmp_path / "j").read_text()) == FINGERPRINT | {"text": ["a", "b"]}
    write(tmp_path / "j")
    with Journal.begin(tmp_path / "j", FINGERPRINT) as journal:
        assert list(journal.records()) == []


@pytest.mark.parametrize(
    ("change", "piece"),
    [
        ({"model": "other"}, "another model: it was 'abc', now it is 'other'"),
        ({"point": "fast"}, "another point: it was None, now it is 'fast'"),
        ({"input": {"path": "a", "size": 4}}, "another input: it was {'path': 'a', 'size': 3}"),
        ({"new": 1}, "another new: it was None, now it is 1"),
    ],
)
def test_a_journal_of_something_else_is_refused_and_left_alone(
    tmp_path: Path, change: dict[str, Any], piece: str
) -> None:
    content = write(tmp_path / "j")
    with pytest.raises(ValueError, match=r"resume=true: .*j was begun with") as caught:
        Journal.resume(tmp_path / "j", FINGERPRINT | change, 2)
    assert piece in str(caught.value)
    assert (tmp_path / "j").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b"[1]\n", b"\xff\n"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(ValueError, match="no record of an interrupted prediction"):
        check_fingerprint(tmp_path / "j", FINGERPRINT)


def test_rows_are_on_the_disk_within_about_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Journal.begin(tmp_path / "j", FINGERPRINT) as journal:
        start = (tmp_path / "j").stat().st_size
        journal.add(RECORDS[0])
        assert (tmp_path / "j").stat().st_size == start
        now = 1.5
        journal.add(RECORDS[1])
        assert (tmp_path / "j").read_bytes().count(b"\n") == 3
        journal.add(RECORDS[2])
        assert (tmp_path / "j").read_bytes().count(b"\n") == 3


def test_a_path_that_is_no_utf8_is_remembered(tmp_path: Path) -> None:
    path, asked = tmp_path / "a.part", {"input": "a\udcff.csv"}
    with Journal.begin(path, asked):
        pass
    assert begun_with(path) == asked
