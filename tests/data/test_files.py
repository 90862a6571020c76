from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharcs_pl.data.files import Request, check_columns, check_file, listed, read_rows, short_name, shown
from tests.data.formats import CONTAINERS, NASTY, SUFFIXES, write_rows

REQUEST = Request(("text", "label"))


def rows_of(path: Path, request: Request = REQUEST) -> list[tuple]:
    return list(read_rows(path, request))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fault(path: Path, request: Request = REQUEST) -> str:
    """The message, which is one line of bearable length and names the file."""
    with pytest.raises(ValueError) as caught:
        rows_of(path, request)
    message = str(caught.value)
    assert len(message) < 300
    assert message.isprintable()
    assert message.startswith(path.name)
    return message


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_texts_survive_unchanged(suffix: str, tmp_path: Path):
    texts = list(NASTY.values())
    columns = {"id": range(len(texts)), "label": ["x"] * len(texts), "text": texts}
    rows = rows_of(write_rows(tmp_path / f"nasty{suffix}", columns))
    assert [values for _, values in rows] == [(text, "x") for text in texts]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.csv", 'text,label\n"a\nb",1\n\n\nc,2\r\nd,3', [2, 6, 7]),
        ("a.csv", '\n\ntext,label\n"a\r\nb\r\n",1\r\nc,2\r\n', [4, 7]),
        ("a.csv", "text,label\n   \na,1\n", [3]),
        ("a.jsonl", '\ufeff{"text": "a", "label":\r 1}\n\n \n{"label": 1, "text": "\u2028"}', [1, 4]),
        ("a.tsv", "\ufefftext\tlabel\r\na\t1\r\n\r\nb\t1\r\n", [2, 4]),
    ],
)
def test_a_place_is_the_line_where_the_row_starts(name: str, content: str, lines: list[int], tmp_path: Path):
    rows = rows_of(write(tmp_path, name, content))
    assert [place for place, _ in rows] == [f"{name}, line {line}" for line in lines]


def test_rows_of_parquet_are_counted_from_one_across_batches(tmp_path: Path):
    texts = [str(number) for number in range(10_000)]
    rows = rows_of(write_rows(tmp_path / "a.parquet", {"text": texts, "label": texts}))
    assert rows == [(f"a.parquet, row {number + 1}", (text, text)) for number, text in enumerate(texts)]


def test_carriage_returns_alone_end_rows_too(tmp_path: Path):
    assert [values for _, values in rows_of(write(tmp_path, "a.csv", "text,label\ra,1\rb,2\r"))] == [
        ("a", "1"),
        ("b", "2"),
    ]


def test_without_quoting_a_quote_is_a_character(tmp_path: Path):
    path = write(tmp_path, "a.tsv", 'text\tlabel\r\n"a\t1\n\nb" c\rd\t"2"\r\n')
    rows = rows_of(path, Request(("text", "label"), quoting="none"))
    assert rows == [("a.tsv, line 2", ('"a', "1")), ("a.tsv, line 4", ('b" c\rd', '"2"'))]


def test_the_limit_of_csv_stays_what_it_was(tmp_path: Path):
    before = csv.field_size_limit(1000)
    try:
        rows = read_rows(write_rows(tmp_path / "a.csv", {"text": ["x" * 200_000] * 2, "label": [1, 2]}), REQUEST)
        next(rows)
        assert csv.field_size_limit() == 1000
        next(rows)
        fault(write(tmp_path, "b.csv", 'text,label\n"a'))
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


ADVICE = "double a quote inside a quoted cell, or set task.quoting=none where quotes are plain characters"
HEAD = "text,label\n"
DELIMITED_FAULTS = {
    "short row": ("a,1\n\nb\nc,2\n", "line 4: 1 cells, expected 2: text, label"),
    "long row": ("a,1,2\n", "line 2: 3 cells, expected 2: text, label"),
    "comma in a text with quotes": (
        'a "b, c",1\n',
        "line 2: 3 cells, expected 2: text, label; quotes count only around",
    ),
    "merged rows": ('"a,1\nb",c,2\n', "line 2: 3 cells, expected 2: text, label; a quoted cell spans several lines"),
    "no text after a quote": ('a,1\n"b" c,2\n', f"line 3: a stray quote before ' c,2\\n' in a quoted cell; {ADVICE}"),
    "open quote": ('a,1\n"b,2\nc,3\nd,4\n', f"line 3: a quote opens here and is never closed; {ADVICE}"),
    "open after a long cell": ('"a\n\nb","1\nc,2\n', "line 4: a quote opens here and is never closed"),
    "open after a plain cell": ('a,"1\nc,2\n', "line 2: a quote opens here and is never closed"),
    "open with doubled quotes": ('a,1\n"b ""c"",2\n', "line 3: a quote opens here and is never closed"),
    "quote of a later row": (
        'a,1\n"b,2\nc,3\n"d",4\n',
        "line 3: the quote that opens here meets a stray quote in line 5",
    ),
    "latin-1": (b"a,1\n\ncaf\xe9,1\n", "line 4: not UTF-8 at byte 19 of the file"),
    "nothing": ("\n\n", "no rows"),
}


@pytest.mark.parametrize("name", DELIMITED_FAULTS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_faults_of_delimited_files(name: str, suffix: str, tmp_path: Path):
    content, message = DELIMITED_FAULTS[name]
    data = HEAD.encode() + (content.encode() if isinstance(content, str) else content)
    if suffix == ".tsv":
        data, message = data.replace(b",", b"\t"), message.replace("' c,2\\n'", "' c\\t2\\n'")
    found = fault(write(tmp_path, f"tickets{suffix}", data))
    assert found.startswith(f"tickets{suffix}{': ' if name == 'nothing' else ', '}{message}")


JSONL_FAULTS = {
    "broken": ('{"text": "a"; "label": 1}', "invalid JSON: Expecting ',' delimiter at column 13"),
    "list": ('["a", 1]', "['a', 1] is not an object"),
    "missing key": ('{"txt": "a", "label": 1}', "no column 'text' (did you mean 'txt'?) among txt, label"),
    "surrogate": ('{"text": "a\\ud800", "label": 1}', "'text' holds '\\ud800', half of a surrogate pair"),
    "deep": ("[" * 100_000, "invalid JSON"),
    "digits": ('{"text": "a", "label": ' + "1" * 5000 + "}", "invalid JSON: 'Exceeds the limit"),
    "latin-1": (b'{"text": "caf\xe9", "label": 1}', "not UTF-8 at byte 40"),
}


@pytest.mark.parametrize("name", JSONL_FAULTS)
def test_faults_of_jsonl(name: str, tmp_path: Path):
    content, message = JSONL_FAULTS[name]
    good = b'{"text": "a", "label": 1}\n'
    data = good + b"\n" + (content.encode() if isinstance(content, str) else content) + b"\n"
    assert fault(write(tmp_path, "a.jsonl", data)).startswith(f"a.jsonl, line 3: {message}")


def test_a_pair_of_surrogates_is_one_character(tmp_path: Path):
    (row,) = rows_of(write(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude00", "label": 1}'))
    assert row[1] == ("😀", 1)


def test_faults_of_parquet(tmp_path: Path):
    path = write_rows(tmp_path / "a.parquet", {"text": ["a"] * 9, "label": [1] * 9})
    assert "no column 'txt' (did you mean 'text'?) among text, label" in fault(path, Request(("txt", "label")))
    whole = path.read_bytes()
    for content in (whole[:-9], b"text,label\n", b"", whole[:4] + bytes(40) + whole[44:]):
        assert "not a whole parquet file" in fault(write(tmp_path, "b.parquet", content))
    bad = pa.array([b"a", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"text": bad, "label": [1, 2]}), path)
    assert "a.parquet, row 2: not UTF-8" in fault(path)
    pq.write_table(pa.table([["a"], ["b"], [1]], names=["text", "text", "label"]), path)
    assert "more than one column is called 'text'" in fault(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_is_a_fault(suffix: str, tmp_path: Path):
    path = write_rows(tmp_path / f"a{suffix}", {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    assert fault(path) == f"a{suffix}: no rows"
    if suffix != ".parquet":
        path.write_text("\n\n")
        assert fault(path) == f"a{suffix}: no rows"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_optional_column_is_read_where_it_is(suffix: str, tmp_path: Path):
    request = Request(("text",), optional="label")
    path = write_rows(tmp_path / f"a{suffix}", {"label": ["x"], "text": ["a"]})
    assert [values for _, values in rows_of(path, request)] == [("a", "x")]
    write_rows(path, {"other": ["x"], "text": ["a"]})
    assert [values for _, values in rows_of(path, request)] == [("a",)]


def test_an_optional_key_is_there_in_all_rows_or_in_none(tmp_path: Path):
    with_label, without = '{"text": "a", "label": "x"}\n', '{"text": "a"}\n'
    request = Request(("text",), optional="label")
    assert "line 2: no column 'label'" in fault(write(tmp_path, "a.jsonl", with_label + without), request)
    assert "line 2: has 'label', which" in fault(write(tmp_path, "a.jsonl", without + with_label), request)


def test_columns_are_named_with_the_closest(tmp_path: Path):
    names = ["id", " Verdict", *(f"column_{number}" for number in range(500))]
    with pytest.raises(
        ValueError, match=r"^a: no column 'verdict' \(did you mean ' Verdict'\?\) among id,.* and 49\d"
    ) as e:
        check_columns("a", names, ["id", "verdict"])
    assert len(str(e.value)) < 250
    with pytest.raises(ValueError, match="more than one column is called 'id'"):
        check_columns("a", ["id", "x", "id"], ["x"])
    with pytest.raises(ValueError, match=r"did you mean 'Label'\?"):
        check_columns("a", ["Text", "Label"], ["LABEL"])
    check_columns("a", names, [" Verdict"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.doc", r"task\.train=.*: the suffix '\.doc' is not supported; choose among \.csv, .*\.json, .*\.parquet"),
        ("a.ods", r"task\.train=.*: the suffix '\.ods' is not supported; save it as \.xlsx or \.csv"),
        ("a.XLS", r"the suffix '\.xls' is not supported; save it as \.xlsx or \.csv"),
        ("a.zip", r"the suffix '\.zip' is not supported; unpack it first"),
        ("a.gz", r"a\.gz: the name must tell the format before \.gz, such as data\.csv\.gz"),
        ("a.doc.gz", r"the suffix '\.doc' is not supported; choose among"),
        ("a.parquet.gz", r"a \.parquet file is compressed inside; unpack it"),
        ("a.csv.gz", r"task\.train=.*a\.csv\.gz: there is no such file"),
        ("validation", r"the suffix '' is not supported"),
        ("a.csv", r"task\.train=.*a\.csv: there is no such file"),
        ("folder.csv", r"folder\.csv is a folder"),
        ("x" * 400 + ".csv", r"task\.train=…x+\.csv: there is no such file"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_its_key(name: str, message: str, tmp_path: Path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        check_file("task.train", name if len(name) > 300 else str(tmp_path / name))
    assert len(str(caught.value)) < 300


def test_suffixes_are_read_in_capitals_too(tmp_path: Path):
    path = check_file("task.train", str(write(tmp_path, "A.CSV", "text,label\na,1\n")))
    assert rows_of(path) == [("A.CSV, line 2", ("a", "1"))]


def test_values_are_shown_short_and_on_one_line():
    assert shown("a\nb") == repr("a\nb")
    assert shown("x" * 100) == f"'{'x' * 57}…'"
    assert short_name("a\nb") == "'a\\nb'"
    assert listed(["a", "b"]) == "a, b"
    assert listed([]) == "none"
    assert listed(["x" * 50, "y" * 50, "z"], limit=60) == f"{'x' * 39}…, … and 2 more"
