from __future__ import annotations

import gzip
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.containers import UNPACKERS, Opened, format_of, opened, opened_to_write
from sharcs_pl.data.files import Request, read_found, read_rows
from sharcs_pl.data.lines import Fault
from tests.data.faults import fault, rows_of, write
from tests.data.formats import NASTY, PACKERS, pack, write_rows

REQUEST = Request(("text", "label"))
MARKED = ("utf-16", "utf-32", "utf-8-sig")  # python writes their byte-order mark
CP1252 = "; task.encoding=cp1252 would read {!r} here"
BIG_ENDIAN = {"utf-16-be": b"\xfe\xff", "utf-32-be": b"\x00\x00\xfe\xff"}
ROWS = "text,label\n" + "".join(f"{random.Random(number).random()},x\n" for number in range(5_000))


def columns(texts: list[str]) -> dict[str, list[str]]:
    return {"text": texts, "label": ["x"] * len(texts)}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.csv", (".csv", None)),
        ("a.csv.gz", (".csv", ".gz")),
        ("A.TSV.ZST", (".tsv", ".zst")),
        ("v1.2.jsonl.xz", (".jsonl", ".xz")),
        ("a.gz", ("", ".gz")),
        ("a", ("", None)),
        ("a.gz.csv", (".csv", None)),
    ],
)
def test_the_format_is_told_by_one_ending_or_two(name: str, found: tuple[str, str | None]) -> None:
    assert format_of(Path(name)) == found


@pytest.mark.parametrize("packed", [None, *UNPACKERS])
def test_what_is_written_is_read_again_and_its_bytes_tell_no_time(
    packed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, now in {"a": 1e9, "b": 2e9}.items():
        monkeypatch.setattr("time.time", lambda now=now: now)
        with opened_to_write(tmp_path / f"{name}.csv{packed or ''}", packed) as file:
            file.write(ROWS.encode())
            file.write(b"\xff")
    one, other = ((tmp_path / f"{name}.csv{packed or ''}") for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    with opened(one, "latin-1", "encoding") as source:
        assert source.file.read().decode() == ROWS + "ÿ"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
@pytest.mark.parametrize("encoding", MARKED)
def test_a_byte_order_mark_tells_the_encoding(encoding: str, suffix: str, tmp_path: Path) -> None:
    texts = list(NASTY.values())
    path = write_rows(tmp_path / f"a{suffix}", columns(texts), encoding=encoding)
    for request in (REQUEST, Request(("text", "label"), encoding="latin-1")):
        assert [values for _, values in rows_of(path, request)] == [(text, "x") for text in texts]


@pytest.mark.parametrize("encoding", BIG_ENDIAN)
def test_a_byte_order_mark_tells_the_order_too(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", BIG_ENDIAN[encoding] + "text,label\r\ngrün 😀,x\r\n".encode(encoding))
    assert rows_of(path) == [("a.csv, line 2", ("grün 😀", "x"))]


@pytest.mark.parametrize("encoding", ["cp1252", "iso8859-1", "utf-16-le", "utf-16-be", "gb18030", "shift_jis", "cp037"])
def test_a_key_tells_the_encoding(encoding: str, tmp_path: Path) -> None:
    texts = ["grün, sagte er" if encoding in ("cp1252", "iso8859-1", "cp037") else "中文 ,「", 'a "quoted"\nline']
    path = write_rows(tmp_path / "a.csv", columns(texts), encoding=encoding)
    found = rows_of(path, Request(("text", "label"), encoding=encoding))
    assert [values for _, values in found] == [(text, "x") for text in texts]


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=6),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32", "gb18030"]),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]),
    packed=st.sampled_from(["", *PACKERS]),
)
@settings(max_examples=60)
def test_texts_survive_every_container(
    texts: list[str], encoding: str, suffix: str, packed: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("containers") / f"a{suffix}{packed}"
    write_rows(path, columns(texts), encoding=encoding)
    key = encoding if encoding == "gb18030" else None
    found = rows_of(path, Request(("text", "label"), encoding=key))
    assert [values for _, values in found] == [(text, "x") for text in texts]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\ncaf\xe9 noir,1\n", "line 2: not UTF-8 at byte 14 of the file" + CP1252.format("café")),
        ("a.csv", b"text,label\nx;\x93y\x94,1\n", "line 2: not UTF-8 at byte 13 of the file" + CP1252.format("“y”")),
        ("a.csv", b"text,label\n\x81\xe9,1\n", "task.encoding=latin-1 would read '\\x81é' here"),
        ("a.jsonl", b'{"text": "gr\xfcn"}\n', "line 1: not UTF-8 at byte 12 of the file" + CP1252.format("grün")),
        ("a.json", b'[{"text": "gr\xfcn", "label": 1}]\n', "item 1: not UTF-8" + CP1252.format("grün")),
        ("a.csv", "text,label\ngrün,1\n".encode() + b"\xe9,1\n", "line 3: not UTF-8 at byte 19 of the file"),
        ("a.csv", "text,label\nx,1\n".encode("utf-16-le"), "; if it is UTF-16: task.encoding=utf-16-le"),
        ("a.tsv", "text\tlabel\nx\t1\n".encode("utf-16-be"), "; if it is UTF-16: task.encoding=utf-16-be"),
        ("a.csv", "größe,label\nx,1\n".encode("utf-16-le"), "; if it is UTF-16: task.encoding=utf-16-le"),
        ("a.csv", "text,label\nx,1\ngrün,1\n".encode("utf-16-be"), "; if it is UTF-16: task.encoding=utf-16-be"),
        ("a.json", '[{"text": "a"}]\n'.encode("utf-16-le"), "; if it is UTF-16: task.encoding=utf-16-le"),
        ("a.json", '[{"text": "a"}]\n'.encode("utf-16-be"), "; if it is UTF-16: task.encoding=utf-16-be"),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16-le"), "; if it is UTF-16: task.encoding=utf-16-le"),
    ],
)  # fmt: skip
def test_what_is_not_utf8_is_told_with_the_key_and_how_it_would_read(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    assert message in fault(write(tmp_path, name, content))


def test_after_other_lines_of_utf8_a_bad_byte_is_a_mistake_and_no_encoding(tmp_path: Path) -> None:
    content = "text,label\ngrün,1\n".encode() + b"\xe9,1\n"
    assert fault(write(tmp_path, "a.csv", content)) == "a.csv, line 3: not UTF-8 at byte 19 of the file"


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("cp1252", b"text,label\na\x81,1\nb,2\n"),
        ("ascii", b"text,label\na\xe9,1\nb,2\n"),
        ("gb18030", b"text,label\na\xff,1\nb,2\n"),
        ("utf-16-le", "text,label\na".encode("utf-16-le") + b"\x00\xdc" + ",1\nb,2\n".encode("utf-16-le")),
    ],
)
def test_a_line_that_does_not_decode_is_told_and_the_next_ones_are_read(
    encoding: str, content: bytes, tmp_path: Path
) -> None:
    found = list(read_found(write(tmp_path, "a.csv", content), Request(("text", "label"), encoding=encoding)))
    assert str(found[0]) == f"a.csv, line 2: not {encoding}"
    assert found[1:] == [("a.csv, line 3", ("b", "2"))]


def test_half_a_character_at_the_end_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\na,1\nb,2".encode("utf-16")[:-1])
    assert fault(path) == "a.csv, line 3: not utf-16-le"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_without_a_mark_the_order_of_bytes_is_asked_for(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\na,1\n".encode(f"{encoding}-le"))
    message = fault(path, Request(("text", "label"), encoding=encoding))
    assert message == (
        f"a.csv: no byte-order mark at its start; give task.encoding={encoding}-le or task.encoding={encoding}-be"
    )


def test_a_file_of_utf8_that_a_key_calls_otherwise_is_a_warning(tmp_path: Path) -> None:
    request = Request(("text", "label"), encoding="cp1252")
    with pytest.warns(DataWarning, match=r"^a\.csv looks like UTF-8 and is read with task\.encoding=cp1252$"):
        rows_of(write(tmp_path, "a.csv", "text,label\ngrün,1\n"), request)
    rows_of(write(tmp_path, "a.csv", "text,label\ngrun,1\n"), request)
    rows_of(write(tmp_path, "a.csv", "text,label\ngrün,1\n".encode("cp1252")), request)


CUTS = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "cut short": lambda whole: whole[:-3],
    "cut at once": lambda whole: whole[:5],
    "flipped": lambda whole: whole[:40] + bytes(12) + whole[52:],
    "not compressed": lambda _: ROWS.encode(),
}


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", CUTS)
def test_a_damaged_file_is_told_in_one_line(name: str, packed: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"a.csv{packed}", CUTS[name](pack(ROWS.encode(), packed)))
    assert fault(path).startswith(f"a.csv{packed}: not a whole {packed} file: ")


@pytest.mark.parametrize("packed", PACKERS)
def test_what_comes_before_the_damage_is_read(packed: str, tmp_path: Path) -> None:
    texts = [os.urandom(8).hex() for _ in range(60_000)]
    whole = pack(("text,label\n" + "".join(f"{text},x\n" for text in texts)).encode(), packed)
    path = write(tmp_path, f"a.csv{packed}", whole[:-2000])
    found = list(read_found(path, REQUEST))
    assert isinstance(found[-1], Fault)
    assert found[-1].ends
    read = [values[0] for _, values in found[:-1]]  # pyright: ignore[reportGeneralTypeIssues]
    assert read == texts[: len(read)]
    assert len(read) > (0 if packed == ".bz2" else 10_000)


def test_a_file_packed_in_parts_is_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv.gz", gzip.compress(b"text,label\na,1\n") + gzip.compress(b"b,2\n"))
    assert [values for _, values in rows_of(path)] == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [(".csv.gz", "utf-8"), (".csv.bz2", "utf-8"), (".csv.zst", "utf-8"), (".csv", "utf-16"), (".json.gz", "utf-8")],
)
def test_memory_does_not_grow_with_the_file(suffix: str, encoding: str, tmp_path: Path) -> None:
    texts = [f"{number} of many texts, {number * 7919 % 10_007}" * 60 for number in range(3_000)]  # 5 MB
    path = write_rows(tmp_path / f"a{suffix}", columns(texts), encoding=encoding)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path, REQUEST)) == len(texts)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.csv"
    os.mkfifo(fifo)
    write_end = os.open(fifo, os.O_RDWR)
    os.write(write_end, b"text,label\na,1\n")
    rows = read_rows(fifo, REQUEST)
    assert next(rows) == ("pipe.csv, line 2", ("a", "1"))
    os.write(write_end, b"b,2\n")
    assert next(rows) == ("pipe.csv, line 3", ("b", "2"))
    rows.close()  # pyright: ignore[reportAttributeAccessIssue]
    os.close(write_end)


def test_a_source_knows_its_encoding(tmp_path: Path) -> None:
    with opened(write(tmp_path, "a.txt", "ä".encode("utf-16")), None, "encoding") as source:
        assert isinstance(source, Opened)
        assert (source.file.read(), source.encoding, source.name) == ("ä".encode(), "utf-16-le", "a.txt")
