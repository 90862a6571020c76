"""The same answers in every format, whole or not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharcs_pl.data.containers import PACKERS, opened
from sharcs_pl.inference import writers as module
from sharcs_pl.inference.journal import Journal, Record, journal_path
from sharcs_pl.inference.predictor import Prediction
from sharcs_pl.inference.rows import InputRow
from sharcs_pl.inference.writers import Columns, check_output_file, finish, rejected_path
from tests.data.formats import NASTY

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
CLASSES = Columns(("note", "label"), ("no", "a,b"), ("0.25", "1"), explain=True)
SCORE = Columns((), (), ("0.25", "1"), explain=False)


def answer(label: str | float, *probabilities: float) -> Prediction:
    return Prediction(label, probabilities, 0, "0.25", 12, (0.25, 0.75))


def write(path: Path, columns: Columns, records: Sequence[Record]) -> Path:
    with Journal.begin(journal_path(path), {}) as journal:
        for record in records:
            journal.add(record)
        finish(journal, path, columns)
    return path


def table(path: Path) -> list[dict[str, Any]]:
    """The rows of any output; cells of CSV and TSV are text."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_an_answer_as_a_record_and_as_a_row() -> None:
    record = CLASSES.record(InputRow(7, ("t",), ("x", 3)), answer("a,b", 0.25, 0.75000049))
    assert record == {
        "row": 7, "note": "x", "input_label": 3, "label": "a,b", "probabilities": {"no": 0.25, "a,b": 0.75},
        "rung": 0, "width": "0.25", "macs": 12, "router_scores": {"0.25": 0.25, "1": 0.75},
    }  # fmt: skip
    assert dict(zip(CLASSES.header, CLASSES.values(record), strict=True)) == {
        "row": 7, "note": "x", "input_label": 3, "label": "a,b", "p_no": 0.25, "p_a,b": 0.75,
        "rung": 0, "width": "0.25", "macs": 12, "router_0.25": 0.25, "router_1": 0.75,
    }  # fmt: skip
    score = SCORE.record(InputRow(1, ("t",), ()), answer(2.123456789))
    assert score == {"row": 1, "label": 2.123457, "rung": 0, "width": "0.25", "macs": 12}


def test_a_model_without_a_router_has_no_scores(tmp_path: Path) -> None:
    columns = Columns((), ("no", "yes"), ("1",), explain=True)
    record = columns.record(InputRow(1, ("t",), ()), Prediction("no", (0.5, 0.5), 0, "1", 1, ()))
    assert record["router_scores"] == {}
    assert table(write(tmp_path / "a.parquet", columns, [record]))[0]["router_1"] is None


def test_kept_names_never_clash() -> None:
    kept = ("row", "p_no", "router_1", "input_row", "free")
    columns = Columns(kept, ("no",), ("1",), explain=False)
    assert columns.kept_names == ("input_row", "input_p_no", "input_router_1", "input_input_row", "free")
    assert len(set(columns.header)) == len(columns.header)
    assert Columns(("input_row", "row"), (), ("1",), False).kept_names == ("input_row", "input_input_row")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_the_same(suffix: str, tmp_path: Path) -> None:
    texts = [text for name, text in NASTY.items() if name != "very long"]  # for csv's own limit
    rows = [InputRow(number, ("t",), (text, "x")) for number, text in enumerate(texts, 1)]
    records = [CLASSES.record(row, answer("no", 0.75, 0.25)) for row in rows]
    found = table(write(tmp_path / f"a{suffix}", CLASSES, records))
    assert [row["note"] for row in found] == texts
    values = [[str(value) for value in CLASSES.values(record)] for record in records]
    if suffix == ".jsonl":
        assert found == records
    else:
        assert [[str(value) for value in row.values()] for row in found] == values
        assert tuple(found[0]) == CLASSES.header


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rejected_rows_stand_beside_and_an_old_list_goes(suffix: str, tmp_path: Path) -> None:
    records: list[Record] = [SCORE.record(InputRow(n, ("t",), ()), answer(1.5)) for n in (1, 3)]
    path = write(tmp_path / f"a{suffix}", SCORE, [records[0], [2, "in, line 3", "is bad"], records[1]])
    assert [float(row["label"]) for row in table(path)] == [1.5, 1.5]
    assert [int(row["row"]) for row in table(path)] == [1, 3]
    assert table(rejected_path(path)) == [{"row": 2, "place": "in, line 3", "error": "is bad"}]
    write(path, SCORE, records)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_kept_columns_of_parquet_have_the_type_of_their_values(tmp_path: Path) -> None:
    values = {
        "whole": [1, None, 2**60],
        "real": [1, 2.5, None],
        "truth": [True, None, False],
        "text": ["a", None, "b"],
        "mixed": [1, "a", {"b": [True]}],
        "huge": [1, 2**70, None],
        "none": [None, None, None],
        "yes or 1": [True, 1, None],
    }
    columns = Columns(tuple(values), ("no",), ("1",), explain=False)
    rows = [InputRow(n, ("t",), kept) for n, kept in enumerate(zip(*values.values(), strict=True), 1)]
    path = write(tmp_path / "a.parquet", columns, [columns.record(row, answer("no", 1.0)) for row in rows])
    found = pq.read_table(path)
    kinds = [pa.int64(), pa.float64(), pa.bool_(), *[pa.string()] * 5]
    assert [found.schema.field(name).type for name in values] == kinds
    expected = values | {"mixed": ["1", "a", '{"b": [true]}'], "huge": ["1", str(2**70), None]}
    expected |= {"yes or 1": ["true", "1", None]}
    assert {name: found[name].to_pylist() for name in values} == expected


def test_many_rows_of_parquet_come_in_batches(tmp_path: Path) -> None:
    columns = Columns((), (), ("1",), explain=False)
    records = [columns.record(InputRow(n, ("t",), ()), answer(n / 2)) for n in range(1, 10_001)]
    found = pq.read_table(write(tmp_path / "a.parquet", columns, records))
    assert found["label"].to_pylist() == [n / 2 for n in range(1, 10_001)]


def test_a_write_that_fails_leaves_the_old_output_and_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old")
    monkeypatch.setattr(module, "_rejection", lambda record: 1 / 0)
    with Journal.begin(journal_path(path), {}) as journal:
        journal.add([1, "f", "bad"])
        with pytest.raises(ZeroDivisionError):
            finish(journal, path, SCORE)
    assert path.read_text() == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.part"]


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_a_compressed_output_holds_the_plain_one(suffix: str, packed: str, tmp_path: Path) -> None:
    rows = [InputRow(number, ("t",), (f"ü{number}\n", 3)) for number in range(1, 2_000)]
    records = [[7, "f", "bad"], *(CLASSES.record(row, answer("no", 0.25, 0.75)) for row in rows)]
    plain = write(tmp_path / f"plain{suffix}", CLASSES, records).read_bytes()
    path = write(tmp_path / f"a{suffix}{packed}", CLASSES, records)
    assert len(path.read_bytes()) < len(plain) / 5
    with opened(path, None, "encoding") as source:
        assert source.file.read() == plain
    assert rejected_path(path) == tmp_path / "a.rejected.jsonl"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        [path.name, "a.rejected.jsonl", f"plain{suffix}", "plain.rejected.jsonl"]
    )


def test_an_output_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    for name in ("in.csv", "in.csv.part", "in.rejected.jsonl"):
        (tmp_path / name).write_text("x")
    for value, message in {
        "a.txt": r"output=a\.txt: the suffix '\.txt' is not supported; choose among \.jsonl, .*\.parquet, or -",
        "a.txt.gz": r"output=a\.txt\.gz: the suffix '\.txt' is not supported",
        "a.gz": r"output=a\.gz: the name must tell the format before \.gz, such as answers\.jsonl\.gz",
        "a.parquet.zst": r"output=a\.parquet\.zst: a \.parquet file is compressed inside; leave \.zst out",
        "folder.csv": "is a folder",
        "gone/a.csv": r"output=gone/a\.csv: there is no folder .*gone",
        "in.csv": r"is there already; replace it with overwrite=true",
    }.items():
        with pytest.raises(ValueError, match=message):
            check_output_file(value, None, False)
    for source in ("in.csv", "in.csv.part", "in.rejected.jsonl"):
        with pytest.raises(ValueError, match="would replace the input"):
            check_output_file("in.csv", tmp_path / source, True)
    assert check_output_file("in.csv", None, True) == Path("in.csv")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="may not be written to"):
        check_output_file("a.csv", None, False)
