from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharcs_pl.data.files import Request, check_columns, check_file, listed, read_rows, short_name, shown
from tests.data.faults import DELIMITED_FAULTS, HEAD, JSONL_FAULTS, REQUEST, fault, rows_of, write
from tests.data.formats import CONTAINERS, NASTY, SUFFIXES, write_rows


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


@pytest.mark.parametrize("name", DELIMITED_FAULTS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_faults_of_delimited_files(name: str, suffix: str, tmp_path: Path):
    content, message = DELIMITED_FAULTS[name]
    data = HEAD.encode() + (content.encode() if isinstance(content, str) else content)
    if suffix == ".tsv":
        data, message = data.replace(b",", b"\t"), message.replace("' c,2\\n'", "' c\\t2\\n'")
    found = fault(write(tmp_path, f"tickets{suffix}", data))
    assert found.startswith(f"tickets{suffix}{': ' if name == 'nothing' else ', '}{message}")


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
    request = Request(("text",), optional=("label",))
    path = write_rows(tmp_path / f"a{suffix}", {"label": ["x"], "text": ["a"]})
    assert [values for _, values in rows_of(path, request)] == [("a", "x")]
    write_rows(path, {"other": ["x"], "text": ["a"]})
    assert [values for _, values in rows_of(path, request)] == [("a",)]


def test_an_optional_key_is_there_in_all_rows_or_in_none(tmp_path: Path):
    with_label, without = '{"text": "a", "label": "x"}\n', '{"text": "a"}\n'
    request = Request(("text",), optional=("label",))
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
