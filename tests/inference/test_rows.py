"""Rows that can be used and rows that cannot, in their order, and the answers that come back to them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharcs_pl.data.files import Request, read_found, read_rows
from sharcs_pl.data.lines import Fault
from sharcs_pl.inference.predictor import Prediction
from sharcs_pl.inference.rows import (
    InputLayout,
    InputRow,
    Rejected,
    answer_rows,
    check_first_row,
    check_input,
    check_layout,
    count_rows,
    read_inputs,
)
from tests.data.faults import DELIMITED_FAULTS, HEAD, JSONL_FAULTS
from tests.data.formats import NASTY, write_rows


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def layout(path: Path, *text: str, **more: Any) -> InputLayout:
    return InputLayout(path, path.suffix, text or ("text",), **more)


def read(path: Path, *text: str, **more: Any) -> list[InputRow | Rejected]:
    return list(read_inputs(layout(path, *text, **more)))


def told(rows: Iterable[InputRow | Rejected]) -> list[Any]:
    """A row's texts, or the place and error of one that is rejected."""
    return [row.texts if isinstance(row, InputRow) else str(row) for row in rows]


def prediction(label: str) -> Prediction:
    return Prediction(label, (1.0,), 0, "1", 1, ())


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("name", [name for name in DELIMITED_FAULTS if name != "nothing"])
def test_strict_and_lenient_reading_tell_the_same_first_fault(name: str, suffix: str, tmp_path: Path) -> None:
    content = DELIMITED_FAULTS[name][0]
    data = HEAD.encode() + (content.encode() if isinstance(content, str) else content)
    path = write(tmp_path, f"a{suffix}", data.replace(b",", b"\t") if suffix == ".tsv" else data)
    request = Request(("text", "label"))
    first = next(found for found in read_found(path, request) if isinstance(found, Fault))
    with pytest.raises(ValueError) as caught:
        list(read_rows(path, request))
    assert str(caught.value) == str(first)


def test_reading_goes_on_after_every_fault_of_jsonl(tmp_path: Path) -> None:
    bad = [text.encode() if isinstance(text, str) else text for text, _ in JSONL_FAULTS.values()]
    lines = [line for wrong in bad for line in (b'{"text": "good", "label": 1}', wrong)]
    found = read(write(tmp_path, "a.jsonl", b"\n".join(lines) + b'\n{"text": "last", "label": 2}'), keep=("label",))
    assert [row.number for row in found] == list(range(1, 2 * len(bad) + 2))
    assert [type(row) for row in found] == [InputRow, Rejected] * len(bad) + [InputRow]
    assert found[-1] == InputRow(2 * len(bad) + 1, ("last",), (2,))
    messages = [message.split(" at byte")[0] for _, message in JSONL_FAULTS.values()]
    for number, (row, message) in enumerate(zip(found[1::2], messages, strict=True)):
        assert str(row).startswith(f"a.jsonl, line {2 * number + 2}: {message}")


def test_values_that_are_no_texts(tmp_path: Path) -> None:
    values = ["a", None, 3, ["b"], "  ", "c"]
    path = write_rows(tmp_path / "a.jsonl", {"text": values})
    reasons = ["is null", "is 3, not a text", "is ['b'], not a text", "is empty"]
    expected = [f"a.jsonl, line {line}: 'text' {reason}" for line, reason in enumerate(reasons, 2)]
    assert told(read(path)) == [("a",), *expected, ("c",)]
    assert told(read(path, allow_empty=True))[-2:] == [("  ",), ("c",)]


def test_half_a_surrogate_pair_is_found_inside_a_kept_list(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a", "tags": [{"b": "\\ud800"}]}\n{"text": "b", "tags": [1]}')
    assert told(read(path, keep=("tags",))) == [
        "a.jsonl, line 1: 'tags' holds '\\ud800', half of a surrogate pair: no UTF-8",
        ("b",),
    ]


def test_a_stray_quote_costs_its_row_and_an_open_one_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text\na\n"b" c\n"b"" c" d\n"e\nf"\nlast\n"open\ng\n')
    found = told(read(path))
    assert found[0] == ("a",)
    assert found[1].startswith("a.csv, line 3: a stray quote before ' c\\n' in a quoted cell")
    assert found[2].startswith("a.csv, line 4: a stray quote before ' d\\n'")
    assert found[3:5] == [("e\nf",), ("last",)]
    assert found[5].startswith("a.csv, line 8: a quote opens here and is never closed")
    assert found[5].endswith("or set quoting=none where quotes are plain characters; nothing after it was read")
    assert len(found) == 6


def test_a_quote_that_meets_a_later_one_ends_the_file(tmp_path: Path) -> None:
    found = told(read(write(tmp_path, "a.csv", 'text\na\n"b\nc\n"d"\ne\n')))
    assert "the quote that opens here meets a stray quote in line 5" in found[1]
    assert found[1].endswith("nothing after it was read")
    assert len(found) == 2


@pytest.mark.parametrize("quoting", ["standard", "none"])
def test_lines_that_are_not_utf8_are_named_with_their_byte(quoting: str, tmp_path: Path) -> None:
    content = b"\xef\xbb\xbftext\tn\r\n\xc3\xa9t\xc3\xa9\t1\r\ncaf\xe9\t2\r\nb\t\xff\xfe\r\nlast\t3"
    found = told(read(write(tmp_path, "a.tsv", content), quoting=quoting))
    assert found == [
        ("été",),
        "a.tsv, line 3: not UTF-8 at byte 23 of the file",
        "a.tsv, line 4: not UTF-8 at byte 30 of the file",
        ("last",),
    ]
    assert content[23:24] == b"\xe9"
    assert content[30:31] == b"\xff"


def test_a_row_over_several_lines_names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    found = told(read(write(tmp_path, "a.csv", b'text\n"a\ncaf\xe9\nb"\nlast\n')))
    told_how = "not UTF-8 at byte 11 of the file; encoding=cp1252 would read 'café' here"
    assert found == [f"a.csv, line 3: {told_how}", ("last",)]


def test_an_open_quote_is_told_though_a_line_it_swallows_is_not_utf8(tmp_path: Path) -> None:
    found = told(read(write(tmp_path, "a.csv", b'text\na\n"b\ncaf\xe9\nc\n')))
    assert found[0] == ("a",)
    assert found[1].startswith("a.csv, line 3: a quote opens here and is never closed")
    assert len(found) == 2


def test_rows_of_a_wrong_length_are_left_out(tmp_path: Path) -> None:
    found = told(read(write(tmp_path, "a.csv", "text,n\na,1\nb\n\nc,2,3\nd,4\n")))
    assert found == [
        ("a",),
        "a.csv, line 3: 1 cells, expected 2: text, n",
        "a.csv, line 5: 3 cells, expected 2: text, n",
        ("d",),
    ]


def test_a_text_per_line(tmp_path: Path) -> None:
    found = told(read(write(tmp_path, "a.txt", b'\xef\xbb\xbfa, "b"\r\n\n \ncaf\xe9\nc\x0bd\re')))
    empty = [f"a.txt, line {line}: the line is empty" for line in (2, 3)]
    wrong = "a.txt, line 4: not UTF-8 at byte 17 of the file"
    assert found == [('a, "b"',), *empty, wrong, ("c\x0bd\re",)]
    assert told(read(tmp_path / "a.txt", allow_empty=True))[1:3] == [("",), (" ",)]
    with pytest.raises(ValueError, match="one text per line and no columns such as question, answer"):
        check_layout(layout(tmp_path / "a.txt", "question", "answer"))
    with pytest.raises(ValueError, match="no columns such as text, id"):
        check_layout(layout(tmp_path / "a.txt", keep=("id",)))
    check_layout(layout(tmp_path / "a.txt"))
    assert check_input(str(tmp_path / "a.txt")) == tmp_path / "a.txt"
    with pytest.raises(ValueError, match=r"input=a\.doc: the suffix '\.doc' is not supported; choose .*\.txt"):
        check_input("a.doc")


def test_rows_of_parquet_that_do_not_decode(tmp_path: Path) -> None:
    bad = pa.array([b"a", b"caf\xe9", b"b"]).view(pa.string())
    pq.write_table(pa.table({"text": bad, "id": [1, 2, 3]}), tmp_path / "a.parquet")
    assert told(read(tmp_path / "a.parquet", keep=("id",))) == [("a",), "a.parquet, row 2: not UTF-8", ("b",)]


def test_a_parquet_file_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"text {number}" for number in range(10_000)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=5000, compression="zstd")
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = second.dictionary_page_offset or second.data_page_offset
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    found = read(path)
    assert 4096 <= len(found) <= 5001
    assert told(found[:2]) == [("text 0",), ("text 1",)]
    assert "not a whole parquet file" in str(found[-1])
    assert str(found[-1]).endswith("nothing after it was read")
    assert not [row for row in found[:-1] if isinstance(row, Rejected)]


def test_bytes_cannot_be_carried_along(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "raw": [b"x"]}), tmp_path / "a.parquet")
    assert told(read(tmp_path / "a.parquet", keep=("raw",))) == [
        "a.parquet, row 1: 'raw' holds bytes, which no output takes; leave it out of keep"
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_texts_and_kept_columns_come_unchanged_and_in_the_order_asked(suffix: str, tmp_path: Path) -> None:
    texts = list(NASTY.values())
    path = write_rows(
        tmp_path / f"a{suffix}", {"id": [f"n{i}" for i in range(len(texts))], "b": texts, "a": texts[::-1]}
    )
    rows = read(path, "a", "b", keep=("id", "b"))
    assert [row.texts for row in rows if isinstance(row, InputRow)] == list(zip(texts[::-1], texts, strict=True))
    assert [row.kept for row in rows if isinstance(row, InputRow)] == [(f"n{i}", t) for i, t in enumerate(texts)]
    first = rows[0]
    assert isinstance(first, InputRow)
    assert first.text == first.texts
    assert InputRow(1, ("a",), ()).text == "a"


def test_a_survey_counts_and_refuses(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": 1}\n{"text": "b"}\n')
    assert count_rows(layout(path), skip=True) == 3
    with pytest.raises(ValueError, match=r"^a\.jsonl, line 3: 'text' is 1, not a text$"):
        count_rows(layout(path), skip=False)
    with pytest.raises(
        ValueError, match=r"^a\.jsonl: none of its 3 rows can be used; a.jsonl, line 1: no column 'txt' \(did"
    ):
        count_rows(layout(path, "txt"), skip=True)
    with pytest.raises(ValueError, match=r"^a\.jsonl: no rows$"):
        count_rows(layout(write(tmp_path, "a.jsonl", "\n\n")), skip=True)


def test_a_pipe_is_read_to_its_first_row_that_serves() -> None:
    good, bad = InputRow(2, ("a",), ()), Rejected(1, "stdin, line 1", "is bad")
    taken = iter([bad, good, good, bad])
    rows = check_first_row(taken, skip=True)
    assert list(taken) == [good, bad]
    assert list(rows) == [bad, good]
    for skip, given in ((False, [bad, good]), (True, [bad] * 3), (True, (bad for _ in count()))):
        with pytest.raises(ValueError, match="stdin, line 1: is bad"):
            check_first_row(iter(given), skip)


def lagging(delay: int, seen: list[list[Any]]) -> Callable[[Iterator[Any]], Iterator[Prediction]]:
    """A predictor that answers a text only once ``delay`` later ones were read."""

    def predict(texts: Iterator[Any]) -> Iterator[Prediction]:
        seen.append([])
        waiting: deque[str] = deque()
        for text in texts:
            seen[-1].append(text)
            waiting.append(text)
            if len(waiting) > delay:
                yield prediction(waiting.popleft())
        yield from map(prediction, waiting)

    return predict


def mixed(size: int) -> list[InputRow | Rejected]:
    """Rows of which every third, and the last two, are rejected."""
    bad = {number for number in range(1, size + 1) if number % 3 == 0 or number > size - 2}
    return [
        Rejected(number, "f", "bad") if number in bad else InputRow(number, (f"text {number}",), ())
        for number in range(1, size + 1)
    ]


@pytest.mark.parametrize("delay", [0, 1, 5, 100])
@pytest.mark.parametrize("size", [7, 8, 9, 21])
def test_every_row_gets_its_own_answer_in_order(delay: int, size: int) -> None:
    rows, seen = mixed(size), []
    found = list(answer_rows(iter(rows), lagging(delay, seen), 8, skip=True))
    assert [row for row, _ in found] == rows
    for row, answer in found:
        assert (answer.label if answer else None) == (row.texts[0] if isinstance(row, InputRow) else None)
    by_segment = [[row.text for row in rows[at : at + 8] if isinstance(row, InputRow)] for at in range(0, size, 8)]
    assert seen == by_segment


def test_what_comes_before_a_fatal_row_is_answered_and_nothing_after_it_read() -> None:
    rows = iter([InputRow(1, ("a",), ()), InputRow(2, ("b",), ()), Rejected(3, "f", "bad"), InputRow(4, ("c",), ())])
    found = list(answer_rows(rows, lagging(9, []), 8, skip=False))
    assert [(row.number, answer and answer.label) for row, answer in found] == [(1, "a"), (2, "b"), (3, None)]
    assert [row.number for row in rows] == [4]


def test_no_more_than_a_segment_is_read_ahead() -> None:
    read_so_far = 0

    def rows() -> Iterator[InputRow]:
        nonlocal read_so_far
        for read_so_far in count(1):
            yield InputRow(read_so_far, ("a",), ())

    for number, _ in enumerate(
        answer_rows(rows(), lambda texts: [prediction(str(text)) for text in texts], 16, skip=True), 1
    ):
        assert read_so_far <= number + 16
        if number == 100:
            break


def test_json_of_any_depth_is_carried_along(tmp_path: Path) -> None:
    value = {"a": [1, {"b": None}], "c": 1.5}
    path = write(tmp_path, "a.jsonl", json.dumps({"text": "a", "extra": value}))
    (row,) = read(path, keep=("extra",))
    assert isinstance(row, InputRow)
    assert row.kept == (value,)
