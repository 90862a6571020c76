"""Many files answered by one command, each as it would be alone."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import sharcs_pl.pipeline.predict_file as entry
from sharcs_pl.runs.lock import RunLock
from tests.commands import run_line
from tests.predict.conftest import lines, predict, saved, texts_of, write_texts
from tests.predict.stops import stop_after

OPTIONS: dict[str, Any] = {"batch_size": 4}


def files(folder: Path, hidden: bool = False) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if hidden or not path.parts[0].startswith("."))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three files of two formats, two of them of one name."""
    folder = tmp_path / "data"
    (folder / "x").mkdir(parents=True)
    write_texts(folder / "a.csv", texts_of(60))
    write_texts(folder / "b.jsonl", texts_of(50, 1))
    write_texts(folder / "x" / "a.csv", texts_of(40, 2))
    return folder


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "SEGMENT", 2)  # of 4 rows


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per time that a model is loaded."""
    found: list[int] = []
    load = entry.load

    def counting(*arguments: Any) -> Any:
        found.append(1)
        return load(*arguments)

    monkeypatch.setattr(entry, "load", counting)
    return found


def test_each_is_answered_as_alone_by_a_model_that_is_loaded_once_and_not_again(
    model: Path, data: Path, tmp_path: Path, loads: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "answers"
    total = predict(model, data, out, **OPTIONS)
    assert (total.rows, total.rejected, len(loads)) == (150, 0, 1)
    assert files(out) == ["a.csv", "b.jsonl", "x/a.csv"]
    told = capsys.readouterr().err
    assert "\nb.jsonl: 2 of 3 files, " in told
    assert "3 of 3 files: 150 texts" in told
    for name in files(out):
        predict(model, data / name, tmp_path / f"alone{Path(name).suffix}", overwrite=True, **OPTIONS)
        assert (out / name).read_bytes() == (tmp_path / f"alone{Path(name).suffix}").read_bytes()
    before = {name: (out / name).stat().st_mtime_ns for name in files(out, hidden=True)}
    del loads[:]
    capsys.readouterr()
    again = predict(model, data, out, **OPTIONS)
    assert (again, loads) == (total, [])
    assert {name: (out / name).stat().st_mtime_ns for name in files(out, hidden=True)} == before
    assert capsys.readouterr().err.count("earlier") == 3
    (out / "x" / "a.csv").unlink()
    assert predict(model, data, out, overwrite=True, **OPTIONS) == total
    assert len(loads) == 1
    assert {name for name in before if before[name] != (out / name).stat().st_mtime_ns} == {
        "x/a.csv",
        ".sharcs/x/a.csv.json",
    }


def test_shards_do_every_file_once(model: Path, data: Path, tmp_path: Path, loads: list[int]) -> None:
    out = tmp_path / "answers"
    rows = [predict(model, f"{data}/**/*", out, shard=f"{part}/4", **OPTIONS).rows for part in (3, 1, 4, 2)]
    assert rows == [40, 60, 0, 50]
    assert len(loads) == 3
    assert predict(model, f"{data}/**/*", out, **OPTIONS).rows == 150
    assert len(loads) == 3


def test_a_list_and_the_format_of_all_outputs(model: Path, data: Path, tmp_path: Path) -> None:
    predict(model, [str(data / "x" / "a.csv"), str(data / "*.jsonl")], tmp_path / "out", output_format="jsonl.gz")
    assert files(tmp_path / "out") == ["b.jsonl.gz", "x/a.jsonl.gz"]
    predict(model, tmp_path / "out" / "b.jsonl.gz", tmp_path / "again.csv", text="label", keep="row")  # reads it


def test_a_damaged_file_is_named_and_the_others_are_answered(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], loads: list[int]
) -> None:
    (data / "x" / "b.parquet").write_bytes(b"PAR1 cut")
    (data / "c.csv").write_text("text\ngood\n,\n")
    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            predict(model, data, tmp_path / "out", **OPTIONS)
        assert left.value.code == 1
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert told[0].startswith("error: c.csv, line 3: 2 cells, expected 1")
        assert told[1].startswith("error: x/b.parquet: not a whole parquet file")
        assert len(told) == 2
    assert files(tmp_path / "out") == ["a.csv", "b.jsonl", "x/a.csv"]
    assert len(loads) == 1
    write_texts(data / "x" / "b.parquet", texts_of(3))
    total = predict(model, data, tmp_path / "out", on_error="skip", **OPTIONS)
    assert (total.rows, total.rejected) == (155, 1)
    assert files(tmp_path / "out") == ["a.csv", "b.jsonl", "c.csv", "c.rejected.jsonl", "x/a.csv", "x/b.parquet"]


def test_a_file_that_breaks_off_is_no_finished_one_even_where_bad_rows_are_skipped(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(b"text\n" + b"".join(b"film %d\n" % number for number in range(20_000)))
    (data / "c.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit) as left:
        predict(model, data, tmp_path / "out", on_error="skip", **OPTIONS)
    assert left.value.code == 1
    assert "nothing after it was read" in capsys.readouterr().err
    assert files(tmp_path / "out") == ["a.csv", "b.jsonl", "x/a.csv"]


def test_a_model_that_cannot_be_loaded_ends_it(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device=cuda"):
        predict(model, data, tmp_path / "out", device="cuda")
    assert files(tmp_path, hidden=True) == ["data/a.csv", "data/b.jsonl", "data/x/a.csv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_the_same_command_goes_on(
    model: Path, data: Path, tmp_path: Path, number: int, small_segments: None, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(model, data, tmp_path / "whole", **OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 45, entry.Stopped(number))
        with pytest.raises(SystemExit) as left:
            predict(model, data, tmp_path / "out", **OPTIONS)
    assert left.value.code == 128 + number
    assert "\ninterrupted with 0 of 3 files done; the same command goes on" in "\n" + capsys.readouterr().err
    assert files(tmp_path / "out", hidden=True) == ["a.csv.part"]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 20, AssertionError("answered from its start"))
        stop_after(patch, 48, entry.Stopped(number))
        with pytest.raises(SystemExit):
            predict(model, data, tmp_path / "out", **OPTIONS)
    predict(model, data, tmp_path / "out", **OPTIONS)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    for name in files(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("journal", ["", '{"model'])
def test_a_journal_without_its_first_line_is_begun_again(model: Path, data: Path, tmp_path: Path, journal: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv.part").write_text(journal)
    predict(model, [str(data / "a.csv")], tmp_path / "out", **OPTIONS)
    assert files(tmp_path / "out") == ["a.csv"]


def test_answers_of_another_model_or_of_other_options_are_refused_and_kept(
    model: Path, data: Path, tmp_path: Path, loads: list[int]
) -> None:
    out = tmp_path / "out"
    predict(model, f"{data}/*.csv", out, **OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 10, entry.Stopped(signal.SIGINT))
        with pytest.raises(SystemExit):
            predict(model, data, out, **OPTIONS)
    before = {name: (out / name).read_bytes() for name in files(out, hidden=True)}
    assert "b.jsonl.part" in before
    del loads[:]
    other = saved(tmp_path / "other", num_labels=1)
    for run, options, piece in [
        (other, {}, r"out/a\.csv is there with another model: it was '"),
        (model, {"point": "top"}, r"out/a\.csv is there with another point: it was None, now it is 'top'"),
        (model, {"batch_size": 8}, r"with another batch_size: it was 4, now it is 8; replace it with overwrite=true"),
    ]:
        with pytest.raises(ValueError, match=piece):
            predict(run, f"{data}/**/*.csv", out, **OPTIONS | options)
    with pytest.raises(ValueError, match=r"out/b\.jsonl\.part was begun with another batch_size"):
        predict(model, f"{data}/*.jsonl", out, batch_size=8)
    write_texts(data / "a.csv", texts_of(61))
    with pytest.raises(ValueError, match=r"out/a\.csv is there with another input size: it was \d+, now it is \d+;"):
        predict(model, data, out, **OPTIONS)
    assert {name: (out / name).read_bytes() for name in files(out, hidden=True)} == before
    assert loads == []
    predict(model, data, out, point="narrow", overwrite=True, **OPTIONS)
    assert {row["rung"] for row in lines(out / "b.jsonl")} == {0}
    assert files(out) == ["a.csv", "b.jsonl", "x/a.csv"]


def test_a_file_of_the_user_s_is_not_replaced(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.jsonl").write_text("mine")
    with pytest.raises(ValueError, match=r"out/b\.jsonl is there and was not written by this command"):
        predict(model, data, tmp_path / "out", **OPTIONS)
    assert files(tmp_path / "out", hidden=True) == ["b.jsonl"]


def test_a_process_that_answers_keeps_its_file(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with RunLock(out / ".sharcs" / "b.jsonl.lock") as lock:
        lock.take()
        with pytest.raises(SystemExit) as left:
            predict(model, data, out, **OPTIONS)
        assert left.value.code == 1
        told = capsys.readouterr().err
        assert f"error: {out}/b.jsonl is in use: process {os.getpid()} on " in told
        assert "answers it; wait for its end, or give each start its own shard" in told
        assert files(out) == ["a.csv", "x/a.csv"]
    assert predict(model, data, out, **OPTIONS).rows == 150
    assert [name for name in files(out, hidden=True) if not name.endswith(".json")] == ["a.csv", "b.jsonl", "x/a.csv"]


def test_a_start_with_the_old_options_leaves_the_journal_of_another_one(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(model, data, out, **OPTIONS)
    journal = out / "a.csv.part"
    with RunLock(out / ".sharcs" / "a.csv.lock") as lock:  # of a process with overwrite=true and other options
        lock.take()
        journal.write_text('{"input": null}\n')
        assert predict(model, data, out, **OPTIONS).rows == 150
        assert journal.exists()
        assert lock.path.exists()


def test_what_a_killed_process_left_after_its_last_file_goes(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry.Journal, "remove", lambda self: None)
        predict(model, data, out, **OPTIONS)
    assert len(files(out)) == 6
    predict(model, data, out, **OPTIONS)
    assert files(out, hidden=True) == [
        *(f".sharcs/{name}.json" for name in ("a.csv", "b.jsonl", "x/a.csv")),
        *("a.csv", "b.jsonl", "x/a.csv"),
    ]


def test_the_outputs_may_lie_below_the_inputs(model: Path, data: Path, loads: list[int]) -> None:
    for source in (data, f"{data}/**/*.*"):
        predict(model, source, data / "x" / "answers", **OPTIONS)
        assert files(data / "x" / "answers") == ["a.csv", "b.jsonl", "x/a.csv"]
    assert len(loads) == 1


def test_the_command_itself(model: Path, data: Path, tmp_path: Path) -> None:
    (data / "x" / "a.csv").write_text("text\n")
    words = ["sharcs_pl.predict", f"run={model}", "input=data/**/*.*", "output=out"]
    done = run_line(words, cwd=tmp_path, kind="loaded")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: x/a.csv: no rows\n" in done.stderr
    assert [json.loads(line)["row"] for line in (tmp_path / "out/b.jsonl").read_text().splitlines()] == [*range(1, 51)]
