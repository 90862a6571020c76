from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from sharcs_pl.data.files import Request
from tests.data.faults import fault, rows_of, write
from tests.data.formats import NASTY, write_rows

WANTED = ("text", "label")
REQUEST = Request(WANTED)
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


@pytest.mark.parametrize(("suffix", "name"), list(product([".csv", ".tsv"], DELIMITERS)))
@pytest.mark.parametrize("quoting", ["standard", "none"])
def test_the_header_tells_the_delimiter(suffix: str, name: str, quoting: str, tmp_path: Path) -> None:
    plain = [text for text in NASTY.values() if not set(text) & set('\n\r",;|\t')]
    texts = plain if quoting == "none" else list(NASTY.values())
    columns = {"id": range(len(texts)), "text": texts, "label": ["x"] * len(texts)}
    path = write_rows(tmp_path / f"a{suffix}", columns, DELIMITERS[name])
    expected = [(text, "x") for text in texts]
    for key in (None, DELIMITERS[name]):
        found = rows_of(path, Request(WANTED, quoting=quoting, delimiter=key))
        assert [values for _, values in found] == expected


def test_the_places_stay_those_of_the_file(tmp_path: Path) -> None:
    content = '\ufeff\r\n\r\n"text";"la\r\nbel"\r\n"a\r\nb";1\r\n\r\nc;2\r\n'
    found = rows_of(write(tmp_path, "a.csv", content), Request(("text", "la\r\nbel")))
    assert found == [("a.csv, line 5", ("a\r\nb", "1")), ("a.csv, line 8", ("c", "2"))]


def test_one_column_alone_is_found_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "id;text\n1;a, b\n")
    assert rows_of(path, Request(("text",))) == [("a.csv, line 2", ("a, b",))]
    path = write(tmp_path, "a.csv", "text\na;b\n")
    assert rows_of(path, Request(("text",))) == [("a.csv, line 2", ("a;b",))]


def test_the_endings_own_delimiter_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text;label,text,label\na;1,b,2\n")
    assert rows_of(path) == [("a.csv, line 2", ("b", "2"))]


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=^", "sep=\t", "sep=,"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_excels_first_line_tells_the_delimiter(line: str, end: str, mark: str, tmp_path: Path) -> None:
    separator = line.strip('"')[-1]
    rows = [line, separator.join(["text", "label"]), separator.join(['"a;,"', "1"]), ""]
    path = write(tmp_path, "a.csv", mark + end.join(rows))
    assert rows_of(path) == [("a.csv, line 3", ("a;,", "1"))]
    with_key = Request(WANTED, delimiter=separator)
    assert rows_of(path, with_key) == [("a.csv, line 3", ("a;,", "1"))]


def test_a_usual_delimiter_is_tried_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text^label\na^1\n")
    assert rows_of(path, Request(WANTED, usual_delimiter="^")) == [("a.csv, line 2", ("a", "1"))]
    path = write(tmp_path, "a.csv", "text,label\na,1\n")
    assert rows_of(path, Request(WANTED, usual_delimiter="^")) == [("a.csv, line 2", ("a", "1"))]


FAULTS = [
    ("txt;label\na;1\n", REQUEST, "no column 'text' among txt;label; task.delimiter=semicolon makes them txt, label"),
    ("txt|label\na|1\n", REQUEST, "among txt|label; task.delimiter=pipe makes them txt, label"),
    ("txt\tlabel\na\t1\n", REQUEST, "task.delimiter=tab makes them txt, label"),
    ("txt;a|b\n", REQUEST, "; task.delimiter=semicolon makes them txt, a|b, task.delimiter=pipe makes them txt;a, b"),
    ("text,label\na,1\n", Request(WANTED, delimiter=";"), ",label; task.delimiter=comma makes them text, label"),
    ("a^b\n1^2\n", Request(WANTED, delimiter="^"), "no column 'text' among a, b"),
    ("txt,label\na,1\n", REQUEST, "no column 'text' (did you mean 'txt'?) among txt, label"),
    ("id;txt\n", Request(("text",), prefix=""), "; delimiter=semicolon makes them id, txt"),
    ("text;b|text\n", Request(("text",)), "; task.delimiter=semicolon makes them text, b|text, task.delimiter=pipe"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "request_", "message"), FAULTS)
def test_where_the_header_leaves_a_doubt_the_key_is_told(
    content: str, request_: Request, message: str, tmp_path: Path
) -> None:
    assert message in fault(write(tmp_path, "a.csv", content), request_)


def test_the_message_of_a_plain_fault_has_no_hint(tmp_path: Path) -> None:
    assert fault(write(tmp_path, "a.csv", "a,b\n1,2\n")) == "a.csv, line 1: no column 'text' among a, b"


@pytest.mark.parametrize("content", ['"text;label\n"a;1\n', '"text', "\n" * 2000 + "text;label\na;1\n"])
def test_a_header_that_cannot_be_read_is_told_as_before(content: str, tmp_path: Path) -> None:
    assert fault(write(tmp_path, "a.csv", content)).startswith("a.csv, line ")
