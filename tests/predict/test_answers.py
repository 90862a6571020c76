"""Texts of files and pipes answered by a saved model, in every format."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import sharcs_pl.pipeline.predict_file as entry
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.data import parquet
from sharcs_pl.inference import writers
from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.predict import BROKEN_PIPE
from tests.commands import run_line, start_line
from tests.data.formats import write_rows
from tests.predict.conftest import lines, names, predict, saved, texts_of, write_texts


@pytest.mark.parametrize("mode", ["batch", "stream"])
def test_the_answers_are_the_predictors_in_the_order_of_the_input(model: Path, tmp_path: Path, mode: str) -> None:
    texts = texts_of(700)
    path = write_texts(tmp_path / "in.jsonl", texts, id=range(700))
    summary = predict(model, path, tmp_path / "out.jsonl", mode=mode, batch_size=4, keep="id", explain=True)
    expected = RoutedPredictor.from_pretrained(model, max_length=24).predict(texts)
    found = lines(tmp_path / "out.jsonl")
    assert [(row["row"], row["id"]) for row in found] == [(number + 1, number) for number in range(700)]
    for row, answer in zip(found, expected, strict=True):
        assert (row["label"], row["rung"], row["width"], row["macs"]) == (
            answer.label, answer.rung, answer.width, answer.macs,
        )  # fmt: skip
        assert list(row["probabilities"]) == ["no", "maybe", "yes"]
        assert list(row["probabilities"].values()) == pytest.approx(answer.probabilities, abs=1e-5)
        scores = dict(zip(["0.25", "0.5", "1"], answer.router_scores, strict=True))
        assert row["router_scores"] == pytest.approx(scores, abs=1e-5)
    shares = Counter(answer.width for answer in expected)
    assert summary.shares == {width: count / 700 for width, count in sorted(shares.items())}
    assert min(summary.shares.values()) > 0.01
    assert (summary.rows, summary.rejected) == (700, 0)
    assert summary.macs == pytest.approx(sum(answer.macs for answer in expected) / 700)
    tops = RoutedPredictor.from_pretrained(model, max_length=24, point="top").predict(texts)
    top = sum(answer.macs for answer in tops) / 700
    assert summary.macs_fraction == pytest.approx(summary.macs / top, rel=0.02)  # the router's own share apart
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ndjson", ".parquet", ".txt"])
def test_every_input_and_output_format(model: Path, tmp_path: Path, suffix: str) -> None:
    texts = texts_of(20)
    write_texts(tmp_path / "in.jsonl", texts)
    predict(model, tmp_path / "in.jsonl", tmp_path / "expected.jsonl")
    path = tmp_path / f"in{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(texts))
    else:
        write_texts(path, texts)
    predict(model, path, tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == lines(tmp_path / "expected.jsonl")
    if suffix in (".csv", ".tsv", ".parquet"):
        predict(model, path, tmp_path / f"out{suffix}", keep=["text"])
        labels, kept = table_of(tmp_path / f"out{suffix}")
        assert labels == [row["label"] for row in lines(tmp_path / "expected.jsonl")]
        assert kept == texts


def table_of(path: Path) -> tuple[list[str], list[str]]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table["label"].to_pylist(), table["text"].to_pylist()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [row["label"] for row in rows], [row["text"] for row in rows]


def test_a_score_and_a_pair_of_texts(tmp_path: Path) -> None:
    model = saved(tmp_path / "score", num_labels=1)
    pairs = list(zip(texts_of(9), texts_of(9, seed=1), strict=True))
    path = write_rows(tmp_path / "in.csv", {"b": [b for _, b in pairs], "a": [a for a, _ in pairs]})
    predict(model, path, tmp_path / "out.jsonl", text=["a", "b"], max_length=30)
    expected = RoutedPredictor.from_pretrained(model, max_length=30).predict(pairs)
    found = lines(tmp_path / "out.jsonl")
    assert [row["label"] for row in found] == pytest.approx([p.label for p in expected], abs=1e-5)
    assert list(found[0]) == ["row", "label", "rung", "width", "macs"]


def test_points_and_lengths(model: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "in.txt.jsonl", [" ".join(["good"] * 50)])
    macs = {}
    for name, options in {
        "narrow": {"point": "narrow"}, "top": {"point": "top"}, "longer": {"point": "top", "max_length": 32},
    }.items():  # fmt: skip
        predict(model, path, tmp_path / f"{name}.jsonl", **options)
        macs[name] = lines(tmp_path / f"{name}.jsonl")[0]["macs"]
    assert lines(tmp_path / "narrow.jsonl")[0]["rung"] == 0
    assert lines(tmp_path / "top.jsonl")[0]["rung"] == 2
    cost = SharcsForSequenceClassification.from_pretrained(model).cost.rung_macs(torch.tensor([24, 32]).numpy())
    assert macs == {"narrow": cost[0, 0], "top": cost[0, 2], "longer": cost[1, 2]}


def test_rejected_rows_are_listed_and_the_others_answered(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_texts(tmp_path / "good.jsonl", ["good", "very bad"])
    predict(model, tmp_path / "good.jsonl", tmp_path / "good_out.jsonl")
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n{"text": \n\n{"text": "very bad"}\n{"text": null}\n')
    summary = predict(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", on_error="skip")
    assert (summary.rows, summary.rejected) == (4, 2)
    expected = lines(tmp_path / "good_out.jsonl")
    expected[1]["row"] = 3
    assert lines(tmp_path / "out.jsonl") == expected
    assert lines(tmp_path / "out.rejected.jsonl") == [
        {"row": 2, "place": "in.jsonl, line 2", "error": "invalid JSON: Expecting value at column 10"},
        {"row": 4, "place": "in.jsonl, line 5", "error": "'text' is null"},
    ]
    told = capsys.readouterr()
    assert told.out == ""
    assert "rejected" in told.err
    assert "answers in" in told.err


def test_every_line_of_a_text_file_keeps_its_number(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("good\n\nbad film\n \nvery\n\n")
    with pytest.raises(ValueError, match=r"^in\.txt, line 2: the line is empty$"):
        predict(model, path, tmp_path / "out.jsonl")
    predict(model, path, tmp_path / "out.jsonl", on_error="skip")
    assert [row["row"] for row in lines(tmp_path / "out.jsonl")] == [1, 3, 5]
    assert [row["row"] for row in lines(tmp_path / "out.rejected.jsonl")] == [2, 4, 6]


WAYS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("in.csv", "sep=;\r\nid;text\r\n1;good, film\r\n2;bad\r\n".encode("utf-8-sig"), {}),
    ("in.csv", "id\ttext\n1\tgood, film\n2\tbad\n".encode("utf-16"), {}),
    ("in.tsv.gz", gzip.compress(b"id|text\n1|good, film\n2|bad\n"), {}),
    ("in.csv", b"id^text\n1^good, film\n2^bad\n", {"delimiter": "^"}),
    ("in.json", b'[{"text": "good, film"},\n {"text": "bad"}]', {}),
    ("in.txt.xz", lzma.compress("good, film\nbad\n".encode("utf-16-le")), {"encoding": "utf-16-le"}),
]


# With ids of their own: gzip writes the time, and workers of pytest-xdist must collect the same names.
@pytest.mark.parametrize(
    ("name", "content", "options"), WAYS, ids=["sep", "utf-16", "gzip", "delimiter", "json", "encoding"]
)
def test_files_as_other_programs_write_them(
    model: Path, tmp_path: Path, name: str, content: bytes, options: dict[str, Any]
) -> None:
    write_texts(tmp_path / "plain.jsonl", ["good, film", "bad"])
    predict(model, tmp_path / "plain.jsonl", tmp_path / "expected.jsonl")
    (tmp_path / name).write_bytes(content)
    predict(model, tmp_path / name, tmp_path / "out.jsonl", **options)
    assert lines(tmp_path / "out.jsonl") == lines(tmp_path / "expected.jsonl")


def test_pipes(model: Path, tmp_path: Path) -> None:
    texts = texts_of(6)
    path = write_texts(tmp_path / "in.csv", texts)
    predict(model, path, tmp_path / "out.jsonl")
    words = [f"run={model}", "input=-", "output=-", "format=csv", "on_error=skip", "max_wait_ms=50"]
    started = start_line(["sharcs_pl.predict", *words], cwd=tmp_path, kind="loaded")
    started.stdin.write(path.read_bytes() + b"caf\xe9\ngood\n")
    started.stdin.close()
    answers, told = started.stdout.read(), started.stderr.read()
    assert started.wait() == 0, told
    found = [json.loads(line) for line in answers.splitlines()]
    assert [row["row"] for row in found] == [1, 2, 3, 4, 5, 6, 8]
    assert [row["label"] for row in found[:6]] == [row["label"] for row in lines(tmp_path / "out.jsonl")]
    assert b"rejected: stdin, line 8: not UTF-8 at byte" in told
    assert names(tmp_path) == ["in.csv", "out.jsonl"]


def test_a_bad_row_of_a_pipe_ends_it_after_what_came_before(model: Path, tmp_path: Path) -> None:
    given = b'{"text": "good"}\n{"text": "bad"}\n{"text": 3}\n{"text": "very"}\n'
    for output in ("-", "out.csv"):
        words = ["sharcs_pl.predict", f"run={model}", "input=-", f"output={output}"]
        done = run_line(words, given=given, cwd=tmp_path, kind="loaded")
        assert done.returncode == 2
        assert done.stderr == "error: stdin, line 3: 'text' is 3, not a text\n"
        assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == ([1, 2] if output == "-" else [])
    assert names(tmp_path) == []


def test_a_reader_that_goes_away_is_no_traceback(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("good film\n" * 6000)
    started = start_line(
        ["sharcs_pl.predict", f"run={model}", f"input={path}", "output=-"], cwd=tmp_path, kind="loaded"
    )
    assert json.loads(started.stdout.readline())["row"] == 1
    started.stdout.close()
    assert started.stderr.read() == b""
    assert started.wait() == BROKEN_PIPE


class Instant:
    """A predictor that costs nothing, to see what the rest costs."""

    labels = ("no", "yes")
    thresholds = None
    widths = ("0.25", "0.5", "1")
    max_length = 24
    rule = DecisionRule()

    def __init__(self, model: Path) -> None:
        self.cost = SharcsForSequenceClassification.from_pretrained(model).cost
        self.macs = int(self.cost.rung_macs(torch.tensor([9]).numpy())[0, 1])

    def answer(self, text: Any) -> Prediction:
        return Prediction("no", (0.75, 0.25), 1, "0.5", self.macs, (0.1, 0.2, 0.7))

    def try_stream(self, texts: Iterable[Any], max_wait: float | None) -> Iterator[Prediction]:
        return map(self.answer, texts)

    def try_predict(self, texts: Sequence[Any]) -> list[Prediction]:
        return list(map(self.answer, texts))


@pytest.mark.parametrize(
    ("mode", "suffix", "output"),
    [("stream", ".parquet", ".parquet"), ("batch", ".jsonl", ".jsonl"), ("stream", ".json.gz", ".csv")],
)
def test_memory_does_not_grow_with_the_input(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, suffix: str, output: str
) -> None:
    instant = Instant(model)
    monkeypatch.setattr(entry, "load", lambda *_: instant)
    for module in (parquet, writers):
        monkeypatch.setattr(module, "_BATCH", 256)
    peaks = []
    for rows in (100, 1_500, 4_000):
        path = write_texts(tmp_path / f"in_{rows}{suffix}", [f"{number} " * 100 for number in range(rows)])
        tracemalloc.start()
        predict(model, path, tmp_path / f"out{output}", mode=mode, batch_size=4, keep="text", overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 500_000  # 2,500 rows are more than 1 MB
