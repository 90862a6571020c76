"""An interrupted prediction ends as if it had never been interrupted."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import sharcs_pl.pipeline.predict_file as entry
from sharcs_pl.core.decision import NEVER
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
from sharcs_pl.inference.trained import model_digest, model_settings, open_trained, rule_settings
from tests.commands import start_line
from tests.predict.conftest import lines, names, predict, saved, texts_of, write_texts
from tests.predict.stops import stop_after


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "SEGMENT", 4)  # of 4 rows


def faulty(path: Path) -> Path:
    """100 rows of which every seventh is rejected."""
    texts = texts_of(100)
    rows = [json.dumps({"text": None if number % 7 == 0 else texts[number], "id": number}) for number in range(100)]
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(("mode", "stopped"), [("stream", [0, 40]), ("batch", [50, 99]), ("stream", [64])])
def test_resumed_it_ends_as_if_it_had_never_been_interrupted(
    model: Path, tmp_path: Path, small_segments: None, mode: str, stopped: list[int], suffix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, out = faulty(tmp_path / "in.jsonl"), tmp_path / f"out{suffix}"
    options = {"mode": mode, "batch_size": 4, "keep": "id", "on_error": "skip", "explain": True}
    whole = predict(model, path, tmp_path / f"whole{suffix}", **options)
    for rows in stopped:
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, rows, entry.Stopped(signal.SIGTERM))
            with pytest.raises(SystemExit) as left:
                predict(model, path, out, resume=True, **options)
        assert left.value.code == 128 + signal.SIGTERM
        assert f"interrupted after {rows} rows, kept in {out}.part; the same command with resume=true" in (
            capsys.readouterr().err
        )
        assert not out.exists()
        with (tmp_path / f"out{suffix}.part").open("a") as file:
            file.write('{"row": 9')  # torn
    summary = predict(model, path, out, resume=True, **options)
    assert out.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    rejected = [(tmp_path / f"{name}.rejected.jsonl").read_bytes() for name in ("out", "whole")]
    assert rejected[0] == rejected[1]
    assert rejected[0].count(b"\n") == 15
    assert (summary.rows, summary.rejected, summary.shares) == (whole.rows, whole.rejected, whole.shares)
    assert names(tmp_path) == sorted(
        ["in.jsonl", out.name, "out.rejected.jsonl", f"whole{suffix}", "whole.rejected.jsonl"]
    )


def test_rows_that_were_answered_are_not_answered_again(
    model: Path, tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_texts(tmp_path / "in.jsonl", texts_of(100))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 90, entry.Stopped(signal.SIGINT))
        with pytest.raises(SystemExit) as left:
            predict(model, path, tmp_path / "out.jsonl", batch_size=4)
    assert left.value.code == 130
    seen: list[str] = []
    stream = RoutedPredictor.try_stream

    def counting(
        self: RoutedPredictor, texts: Iterable[Any], max_wait: float | None = None
    ) -> Iterator[Prediction | None]:
        given = list(texts)
        seen.extend(given)
        return stream(self, given, max_wait)

    monkeypatch.setattr(RoutedPredictor, "try_stream", counting)
    predict(model, path, tmp_path / "out.jsonl", batch_size=4, resume=True)
    assert seen == texts_of(100)[80:]
    assert len(lines(tmp_path / "out.jsonl")) == 100
    predict(model, path, tmp_path / "out.jsonl", batch_size=4, resume=True, overwrite=True)
    assert len(seen) == 120  # nothing to go on from: all of them


def test_what_has_changed_since_is_named(model: Path, tmp_path: Path, small_segments: None) -> None:
    path, out = write_texts(tmp_path / "in.jsonl", texts_of(20), id=range(20)), tmp_path / "out.csv"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 18, entry.Stopped(signal.SIGINT))
        with pytest.raises(SystemExit):
            predict(model, path, out)
    part = (tmp_path / "out.csv.part").read_bytes()
    for options, piece in [
        ({"point": "top"}, "another point: it was None, now it is 'top'"),
        ({"batch_size": 8}, "another batch_size: it was 32, now it is 8"),
        ({"keep": "id"}, "another keep"),
        ({"mode": "batch"}, "another mode"),
        ({"max_length": 9}, "another max_length: it was 24, now it is 9"),
        ({"text": "id"}, "another text"),
    ]:
        with pytest.raises(ValueError, match="resume=true") as caught:
            predict(model, path, out, resume=True, **options)
        assert piece in str(caught.value)
    other = saved(tmp_path / "other", num_labels=1)
    with pytest.raises(ValueError, match="another model"):
        predict(other, path, out, resume=True)
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="another input"):
        predict(model, path, out, resume=True)
    assert (tmp_path / "out.csv.part").read_bytes() == part
    predict(model, path, out)
    assert not (tmp_path / "out.csv.part").exists()


def test_a_new_operating_point_is_no_other_model(model: Path, tmp_path: Path) -> None:
    source = open_trained(str(model), record_needed=False)
    settings = model_settings(source)
    digest = model_digest(source, settings)
    assert digest == model_digest(source, settings | {"operating_points": {}, "operating_point": "top"})
    assert digest != model_digest(source, settings | {"split_layer": 2})
    copy = saved(tmp_path / "copy")
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    assert digest != model_digest(open_trained(str(copy), record_needed=False), settings)
    with pytest.raises(
        ValueError, match="point=fast: this model has no such operating point; it has trained, narrow, top"
    ):
        rule_settings(settings, "fast")
    assert rule_settings(settings, None) is rule_settings(settings | {"operating_point": "top"}, TRAINED) is None
    assert rule_settings(settings | {"operating_point": "top"}, None) == [NEVER, NEVER]
    for point, said in (({}, "thresholds is missing"), ({"thresholds": "x"}, "thresholds=x is not a list of numbers")):
        with pytest.raises(ValueError, match=f"^point=bad: {said}"):
            rule_settings(settings | {"operating_points": {"bad": point}}, "bad")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_process_that_is_ended_leaves_what_another_goes_on_from(model: Path, tmp_path: Path, number: int) -> None:
    path = tmp_path / "in.txt"
    path.write_text("\n".join(texts_of(40_000)))
    words = ["sharcs_pl.predict", f"run={model}", f"input={path}", "output=out.csv", "batch_size=4"]
    started = start_line(words, cwd=tmp_path, kind="loaded")
    part, until = tmp_path / "out.csv.part", time.monotonic() + 300
    while not (part.exists() and part.stat().st_size > 200_000):
        os.kill(started.pid, 0)  # which raises once it is gone
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(started.pid, number)
    told = started.stderr.read()
    assert started.wait(240) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert told.startswith(b"interrupted after ") is (number == signal.SIGTERM)
    assert told.count(b"\n") == (number == signal.SIGTERM)
    assert names(tmp_path) == ["in.txt", "out.csv.part"]
    short = "\n".join(path.read_text().splitlines()[:1500])
    stat = path.stat()
    path.write_text(short.ljust(stat.st_size))  # the other rows would only take time
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    predict(model, path, tmp_path / "whole.csv", batch_size=4)
    keep_rows(part, 1100)
    predict(model, path, tmp_path / "out.csv", batch_size=4, resume=True)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def keep_rows(part: Path, rows: int) -> None:
    with part.open("rb") as file:
        kept = list(islice(file, rows + 1))
    part.write_bytes(b"".join(kept))
