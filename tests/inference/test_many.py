"""Which inputs are found, what their outputs are called, and which part of them is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.inference.many import dealt, find_files, is_many


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("text\na\n")


def outputs(value: str | list[str], output: str = "out", output_format: str | None = None) -> dict[str, str]:
    return {str(file.path): str(file.output) for file in find_files(value, output, output_format)}


def test_a_folder_a_glob_and_a_list_are_many() -> None:
    make("a.csv", "data/a.csv", "b[1].csv")
    assert [is_many(value) for value in ("a.csv", "-", "gone.csv", "b[1].csv")] == [False] * 4
    assert [is_many(value) for value in ("data", "*.csv", "gone?.csv", ["a.csv"])] == [True] * 4


def test_names_are_kept_below_the_folder_that_the_command_names() -> None:
    make("data/b.csv", "data/x/b.csv", "data/x/a.TSV.gz", "data/.hidden.csv", "data/notes.md", "more/b.csv")
    below = {"data/b.csv": "out/b.csv", "data/x/a.TSV.gz": "out/x/a.TSV.gz", "data/x/b.csv": "out/x/b.csv"}
    assert outputs("data") == outputs("data/**/*.[cT]*") == below
    assert list(outputs("data")) == ["data/b.csv", "data/x/a.TSV.gz", "data/x/b.csv"]
    assert outputs("data/*/b.csv") == {"data/x/b.csv": "out/x/b.csv"}
    assert outputs("*/b.csv") == {"data/b.csv": "out/data/b.csv", "more/b.csv": "out/more/b.csv"}
    assert outputs(["more/b.csv", "data/x", "data/x/b.csv"]) == {
        "data/x/a.TSV.gz": "out/data/x/a.TSV.gz",
        "data/x/b.csv": "out/data/x/b.csv",
        "more/b.csv": "out/more/b.csv",
    }
    assert outputs(str(Path("data").absolute())) == {str(Path(key).absolute()): below[key] for key in below}


@pytest.mark.parametrize(
    ("name", "kept", "given"),
    [
        ("a.parquet", "a.parquet", "a.csv.zst"),
        ("v1.2.jsonl.xz", "v1.2.jsonl.xz", "v1.2.csv.zst"),
        ("a.txt", "a.jsonl", "a.csv.zst"),
        ("a.json.bz2", "a.jsonl.bz2", "a.csv.zst"),
        ("a.ndjson", "a.jsonl", "a.csv.zst"),
    ],
)
def test_the_ending_is_the_input_s_where_an_output_can_have_it(name: str, kept: str, given: str) -> None:
    make(f"data/{name}")
    assert outputs("data") == {f"data/{name}": f"out/{kept}"}
    assert outputs("data", "out", "csv.zst") == outputs("data", "out/", ".csv.zst") == {f"data/{name}": f"out/{given}"}


@pytest.mark.parametrize(
    ("value", "output", "output_format", "message"),
    [
        ("gone*.csv", "out", None, r"input=gone\*\.csv: no file matches"),
        ("empty", "out", None, r"input=empty: the folder holds no file that ends in \.csv, .*\.txt$"),
        (["data", "gone.csv"], "out", None, r"input=gone\.csv: there is no such file"),
        ("data/*", "out", None, r"input=data/notes\.md: the suffix '\.md' is not supported"),
        ("data", "-", None, r"output=- is for one input; give a folder"),
        ("data", "answers.csv.gz", None, r"output=answers\.csv\.gz is a file; give a folder .*output=answers/"),
        ("data", "data/notes.md", None, r"output=data/notes\.md is a file"),
        ("data", "data/../data", None, r"output=data/\.\./data is the folder of the inputs"),
        ("data/x/*", ".", None, r"output=\.: c\.csv, of c\.csv, would replace an input"),
        ("twins", "out", None, r"output=out: a\.csv and a\.tsv would both write out/a\.rejected\.jsonl"),
        ("twins", "out", "csv", r"output=out: a\.csv and a\.tsv would both write out/a\.csv; predict them into"),
        ("data", "out", "x/y.jsonl", r"output_format=x/y\.jsonl is no ending of a file"),
        ("data", "data/notes.md/out", None, r"output=data/notes\.md/out: .*/notes\.md is a file; give a folder"),
        ("data", "out", "xlsx", r"output_format=xlsx: the suffix '\.xlsx' is not supported; choose among"),
        ("data", "out", "parquet.gz", r"output_format=parquet\.gz: a \.parquet file is compressed inside"),
    ],
)
def test_what_cannot_be_is_refused(
    value: str | list[str], output: str, output_format: str | None, message: str
) -> None:
    make("data/a.csv", "data/notes.md", "data/x/c.csv", "c.csv", "twins/a.csv", "twins/a.tsv")
    Path("empty").mkdir()
    if output == ".":
        Path("c.csv").unlink()
        Path("c.csv").symlink_to("data/x/c.csv")
    with pytest.raises(ValueError, match=message):
        find_files(value, output, output_format)


def test_links_lead_to_no_file_twice() -> None:
    make("data/2026-11/a.csv", "data/b.csv")
    Path("data/latest").symlink_to("2026-11")
    Path("data/loop").symlink_to(".")
    assert outputs("data") == {"data/2026-11/a.csv": "out/2026-11/a.csv", "data/b.csv": "out/b.csv"}


def test_outputs_below_the_inputs_are_no_inputs() -> None:
    make("data/a.csv", "data/out/a.csv", "data/output.csv")
    for value in ("data", "data/**", "data/**/*.csv"):
        assert outputs(value, "data/out") == {"data/a.csv": "data/out/a.csv", "data/output.csv": "data/out/output.csv"}
    assert outputs("data/out", ".") == {"data/out/a.csv": "a.csv"}


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_every_file_is_in_one_part_and_the_parts_are_of_a_size(parts: int) -> None:
    make(*(f"data/{number}.csv" for number in range(7)))
    files = find_files("data", "out", None)
    found = [dealt(files, (number, parts)) for number in range(1, parts + 1)]
    assert sorted(file.name for part in found for file in part) == [file.name for file in files]
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert found[0][0].name == "0.csv"
