"""What is refused before a model is loaded, and torch imported."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.place import RECORD, Place
from tests.predict.conftest import command

CONFIG = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIG |= {"intermediate_size": 32, "max_position_embeddings": 64, "vocab_size": 50}


@pytest.fixture
def shop(place: Place) -> Place:
    """A place with a model's folder of a run on own data, and an input."""
    config = {"model_type": "sharcs", "encoder": CONFIG, "widths": ["0.25", "1"], "operating_points": {"half": {}}}
    place.write_all({
        "model/config.json": json.dumps(config),
        "model/tokenizer.json": "{}",
        "model/model.safetensors": (place.path / "enc/model.safetensors").read_bytes(),
        "model/training.json": json.dumps(RECORD),
        "in.jsonl": '{"review": "good"}\n{"review": "bad"}\n',
        "in.csv": "review,id\ngood,1\nbad,2\n",
    })  # fmt: skip
    return place


def _pair(at: Place) -> None:
    task = RECORD["task"] | {"text": ["question", "answer"]}  # pyright: ignore[reportOperatorIssue]
    at.write("model/training.json", json.dumps(RECORD | {"task": task}))


def _file(name: str, content: str | bytes) -> Callable[[Place], None]:
    return lambda at: at.write(name, content)


def _nothing(at: Place) -> None:
    pass


GOOD = "run=model input=in.jsonl output=out.jsonl"
MANY = "run=model input=in.* output=out"


@pytest.mark.parametrize(
    ("spoil", "line", "pieces"),
    [
        (_nothing, f"{GOOD} point=fast", ["point=fast", "no such operating point", "it has trained, half"]),
        (_nothing, GOOD.replace("=model", "=gone"), ["run=gone does not exist", "model/", "hub id"]),
        (_nothing, GOOD.replace("=model", "=some/gone"), ["run=some/gone does not exist here", "HF_HUB_OFFLINE"]),
        (_nothing, GOOD.replace("=model", "=enc"), ["run=enc is no model of this project", "model_type='bert'"]),
        (_nothing, GOOD.replace("=model", "=glue"), ["run=glue holds neither a run nor a saved model"]),
        (_file("model/model.safetensors", b"\x90" * 99), GOOD, ["model.safetensors is damaged"]),
        (_file("model/tokenizer.json", '{"model": {"vocab": {"a": 99}}}'), GOOD,
         ["run=model: its tokenizer has 100 ids, its encoder 50 embeddings"]),
        (_file("model/config.json", "{"), GOOD, ["model/config.json is not valid JSON"]),
        (_nothing, GOOD.replace("in.j", "gone.j"), ["input=gone.jsonl: there is no such file"]),
        (_file("in", "{}"), GOOD.replace("in.jsonl", "in"), ["input=in: the suffix '' is not", ".xlsx, .txt"]),
        (_file("out.gz", ""), GOOD.replace("out.jsonl", "out.gz"), ["the format before .gz, such as answers.jsonl.gz"]),
        (_nothing, f"{GOOD} shard=1/2", ["shard=1/2 is for many files; give a folder, a glob or a list as input"]),
        (_nothing, f"{GOOD} output_format=csv", ["output_format=csv is for many files"]),
        (_nothing, f"{MANY} shard=5/4", ["shard=5/4 is no part; give i/n with i from 1 to n, such as shard=3/8"]),
        (_nothing, f"{MANY} shard=0/4", ["shard=0/4 is no part"]),
        (_nothing, f"{MANY} shard=2", ["shard=2 is no part"]),
        (_nothing, f"{MANY} output_format=xlsx", ["output_format=xlsx: the suffix '.xlsx' is not supported"]),
        (_nothing, MANY.replace("=in.*", "=[]"), ["input=[] must name a file, a folder or a glob"]),
        (_nothing, MANY.replace("=in.*", "=[in.csv,-]"), ["- is a pipe, which stands alone"]),
        (_nothing, MANY.replace("=in.*", "=gone/*.csv"), ["input=gone/*.csv: no file matches"]),
        (_file("gone/notes.md", ""), MANY.replace("=in.*", "=gone"), ["input=gone: the folder holds no file", ".txt"]),
        (_nothing, MANY.replace("=in.*", "=[in.csv,gone.csv]"), ["input=gone.csv: there is no such file"]),
        (_nothing, MANY.replace("=out", "=-"), ["output=- is for one input", "output=answers/"]),
        (_nothing, MANY.replace("=out", "=out.csv"), ["output=out.csv is a file; give a folder"]),
        (_nothing, MANY.replace("=out", "=in.csv"), ["output=in.csv is a file; give a folder"]),
        (_nothing, MANY.replace("=out", "=."), ["output=. is the folder of the inputs; give another folder"]),
        (_nothing, MANY, ["in.csv and in.jsonl would both write out/in.rejected.jsonl"]),
        (_nothing, MANY.replace("=in.*", "=*.csv") + " point=fast", ["point=fast", "no such operating point"]),
        (_file("out/in.csv", "mine"), MANY.replace("=in.*", "=in.c*"), ["out/in.csv is there and was not written by"]),
        (_file("out/in.csv.part", "{}\n"), MANY.replace("=in.*", "=in.c*"), ["out/in.csv.part was begun with another"]),
        (_file("out/in.csv.part", "x\n"), MANY.replace("=in.*", "=in.c*"), ["is no record", "move it away"]),
        (_file("in.doc", "{}"), GOOD.replace("in.jsonl", "in.doc"), ["'.doc' is not supported"]),
        (_file("in.ods", "PK"), GOOD.replace("in.jsonl", "in.ods"), ["'.ods' is not supported; save it as .xlsx"]),
        (_file("in.json", '{"review": ["a"]}'), GOOD.replace("in.jsonl", "in.json"),
         ["in.json: one object with the keys review", "a list of objects"]),
        (_file("in.json", '[{"review": "a"}, {"review": 3}]'), GOOD.replace("in.jsonl", "in.json"),
         ["in.json, item 2: 'review' is 3, not a text"]),
        (_file("in.csv.gz", "review\na\n"), GOOD.replace("in.jsonl", "in.csv.gz"), ["in.csv.gz: not a whole .gz file"]),
        (_file("in.txt", "a\n\nb\n"), GOOD.replace("in.jsonl", "in.txt"), ["in.txt, line 2: the line is empty"]),
        (_file("in.csv", "reviw;id\na;1\n"), GOOD.replace("in.jsonl", "in.csv"),
         ["no column 'review'", "; delimiter=semicolon makes them reviw, id"]),
        (_file("in.csv", b"review\ncaf\xe9\n"), GOOD.replace("in.jsonl", "in.csv"),
         ["in.csv, line 2: not UTF-8 at byte 10", "; encoding=cp1252 would read 'café' here"]),
        (_nothing, f"{GOOD} delimiter=ab", ["delimiter=ab is no delimiter", "semicolon"]),
        (_nothing, f"{GOOD} encoding=latn1", ["encoding=latn1 is no encoding", "did you mean latin1"]),
        (_nothing, f"{GOOD} text=a,b", ["text=a,b is no list; did you mean 'text=[a,b]'?"]),
        (_file("in.jsonl", ""), GOOD, ["in.jsonl: no rows"]),
        (_file("in.jsonl", "\n\n"), f"{GOOD} on_error=skip", ["in.jsonl: no rows"]),
        (_file("in.parquet", "PAR1 cut"), GOOD.replace("in.jsonl", "in.parquet"), ["not a whole parquet file"]),
        (_file("in.csv", "reviews,id\na,1\n"), GOOD.replace("in.jsonl", "in.csv"),
         ["in.csv, line 1: no column 'review' (did you mean 'reviews'?) among reviews, id"]),
        (_file("in.jsonl", '{"id": 1}\n'), f"{GOOD} on_error=skip", ["none of its 1 rows can be used", "'review'"]),
        (_nothing, f"{GOOD} text=title", ["in.jsonl, line 1: no column 'title' among review"]),
        (_nothing, f"{GOOD} keep=[id]", ["in.jsonl, line 1: no column 'id' among review"]),
        (_nothing, f"{GOOD} text=[a,b]", ["text=['a', 'b'] names 2 columns, this model reads 1: review"]),
        (_nothing, f"{GOOD} text=[a,b,c]", ["names 3 columns"]),
        (_nothing, f"{GOOD} text=[a,a]", ["several different ones"]),
        (_nothing, f"{GOOD} keep=[]", ["keep=[] must name a column"]),
        (_pair, f"{GOOD} text=review", ["text=review names 1 columns, this model reads 2: question, answer"]),
        (_file("in.jsonl", '{"review": "a"}\n{"review": 3}\n'), GOOD, ["in.jsonl, line 2: 'review' is 3, not a text"]),
        (_file("in.jsonl", '{"review": "a"}\n{"review": \n'), GOOD, ["in.jsonl, line 2: invalid JSON"]),
        (_file("in.jsonl", b'{"review": "a"}\n{"review": "\xe9"}\n'), GOOD, ["in.jsonl, line 2: not UTF-8 at byte 28"]),
        (_file("in.csv", "review\na\n,\n"), GOOD.replace("in.jsonl", "in.csv"), ["line 3: 2 cells, expected 1"]),
        (_file("in.csv", 'review,id\n"a,1\n'), GOOD.replace("in.jsonl", "in.csv"), ["line 2: a quote", "quoting=none"]),
        (_nothing, GOOD.replace("out.jsonl", "out.xlsx"), ["output=out.xlsx: the suffix '.xlsx' is not supported"]),
        (_nothing, GOOD.replace("out.jsonl", "gone/out.csv"), ["output=gone/out.csv: there is no folder"]),
        (_file("dir.csv/x", ""), GOOD.replace("out.jsonl", "dir.csv"), ["output=dir.csv is a folder"]),
        (_file("out.jsonl", "x"), GOOD, ["output=out.jsonl is there already", "overwrite=true"]),
        (_nothing, GOOD.replace("out.jsonl", "in.jsonl"), ["output=in.jsonl would replace the input in.jsonl"]),
        (_nothing, GOOD.replace("out.jsonl", "in.jsonl") + " overwrite=true", ["would replace the input"]),
        (_nothing, f"{GOOD} mode=fast", ["mode=fast is unknown", "batch, stream"]),
        (_nothing, f"{GOOD} mode=batch max_wait_ms=5", ["max_wait_ms=5 is for mode=stream"]),
        (_nothing, f"{GOOD} max_wait_ms=-1", ["max_wait_ms=-1.0 is out of range"]),
        (_nothing, f"{GOOD} batch_size=0", ["batch_size=0 is out of range"]),
        (_nothing, f"{GOOD} max_length=99", ["max_length=99: this encoder reads at most 64 tokens"]),
        (_nothing, f"{GOOD} max_length=3", ["max_length=3 is out of range"]),
        (_nothing, f"{GOOD} precision=float8", ["precision=float8 is unknown"]),
        (_nothing, f"{GOOD} precision=int8", ["precision=int8: torch computes in float32 or bfloat16"]),
        (_nothing, f"{GOOD} device=tpu", ["device=tpu is unknown"]),
        (_nothing, f"{GOOD} on_error=ignore", ["on_error=ignore is unknown", "fatal, skip"]),
        (_nothing, f"{GOOD} quoting=some", ["quoting=some is unknown"]),
        (_nothing, "run=model input=- output=out.csv resume=true", ["resume=true", "input=- is a pipe"]),
        (_nothing, "run=model input=in.csv output=- resume=true", ["resume=true", "output=- is a pipe"]),
        (_nothing, "run=model input=- output=out.csv format=parquet", ["format=parquet is unknown"]),
        (_nothing, "run=model input=in.csv", ["output is missing; add output="]),
        (_nothing, f"{GOOD} explian=true", ["explian", "did you mean explain?"]),
        (_file("out.jsonl.part", "{}\n"), f"{GOOD} resume=true", ["out.jsonl.part was begun with another"]),
    ],
)  # fmt: skip
def test_bad_input(shop: Place, spoil: Callable[[Place], None], line: str, pieces: list[str]) -> None:
    spoil(shop)
    shop.refuse(line, *pieces, command="predict")


def test_an_empty_pipe_and_a_bad_first_row_of_one(shop: Place) -> None:
    shop.environment["PYTHONUTF8"] = "0"
    for given, piece in {"": "stdin: no rows", '{"a": 1}\n': "stdin, line 1: no column 'review' among a"}.items():
        words = command(Path("model"), "input=-", "output=out.csv")
        done = subprocess.run(words, cwd=shop.path, env=shop.environment, input=given, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {piece}\n")
    assert not shop.mark.exists()
    assert not list(shop.path.glob("out*"))


def test_files_that_cannot_be_used_are_named_without_torch(shop: Place) -> None:
    shop.write_all({"many/a.csv": "review\n,\n", "many/x/a.csv": "text\na\n"})
    answer = shop.type("run=model input=many output=out", "predict")
    assert answer.code == 1
    assert "error: a.csv, line 2: 2 cells, expected 1" in answer.err
    assert "error: x/a.csv, line 1: no column 'review' among text" in answer.err
    assert "0 of 2 files: 0 texts" in answer.err
    assert not shop.mark.exists()


def test_an_output_that_may_not_be_written(shop: Place) -> None:
    (shop.path / "closed").mkdir(mode=0o555)
    if os.access(shop.path / "closed", os.W_OK):
        pytest.skip("root may write anywhere")
    shop.refuse(f"{GOOD[:-9]}closed/out.jsonl", "closed may not be written to", command="predict")


def test_help_answers_without_torch(shop: Place) -> None:
    answer = shop.type("--help", "predict")
    assert (answer.code, answer.err) == (0, "")
    assert all(f"\n{key} " in answer.out for key in ("run", "input", "point", "max_wait_ms", "on_error"))
    assert not shop.mark.exists()
