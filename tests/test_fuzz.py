"""Random mistakes in config values and data files: an answer in one line, never a traceback, a hang or a half file.

Everything up to the import of torch is run in this process, through the command's own ``main``; what would train is
stopped there. ``make test-slow`` tries 300 of each kind.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import sharcs_pl.train as entry
from sharcs_pl.config import RunConfig
from sharcs_pl.config.errors import LONGEST_MESSAGE
from sharcs_pl.config.help import describe
from tests.place import GOOD, OWN, Place

pytestmark = pytest.mark.filterwarnings("always::sharcs_pl.core.errors.DataWarning")

KEYS = sorted(key for key, _, _ in describe(RunConfig))
SLOW = pytest.param(300, marks=pytest.mark.slow)
JUNK = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1e-30, 1e30, 10**20])).map(str)
WORDS = st.sampled_from(
    ["null", "true", "???", "[]", "{}", "[[0,1]]", "[1,0.5]", "{a:1}", "${seed}", "${nope}", "1/0", "'", "[", "a=b", ""]
)
VALUES = st.one_of(NUMBERS, WORDS, JUNK, st.lists(NUMBERS, max_size=3).map(lambda xs: f"[{','.join(xs)}]"))
OVERRIDES = st.lists(
    st.tuples(st.sampled_from(["", "", "", "+", "++", "~"]), st.one_of(st.sampled_from(KEYS), JUNK), VALUES),
    min_size=1,
    max_size=3,
)


class Stopped(Exception):
    """All checks passed: here torch would be imported."""


def _hangs(*_: object) -> None:
    raise AssertionError("the command hangs")


def type_here(place: Place, line: Sequence[str]) -> tuple[int, str]:
    """Exit code and stderr of the train command in this process; 0 where it would have trained."""
    err = io.StringIO()
    GlobalHydra.instance().clear()
    stop = mock.patch.object(entry, "silence_libraries", side_effect=Stopped)
    # Hydra closes every handler of the process. absl's, which TensorBoard brings, would close pytest's stderr with it.
    handlers = mock.patch.object(logging, "_handlerList", [])
    argv = mock.patch.object(sys, "argv", ["train", *line])
    with argv, stop, handlers, redirect_stderr(err), redirect_stdout(io.StringIO()):
        signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(20)
        try:
            entry.main()
        except Stopped:
            return 0, err.getvalue()
        except SystemExit as leaving:
            return int(leaving.code or 0), err.getvalue()
        finally:
            signal.alarm(0)
    raise AssertionError("the command neither ended nor trained")


def check(place: Place, line: Sequence[str]) -> None:
    before = place.files()
    code, err = type_here(place, line)
    errors = [text for text in err.splitlines() if not text.startswith("warning: ")]
    assert code in (0, 2), (line, err)
    assert "Traceback" not in err
    if code == 2:
        assert len(errors) == 1, (line, err)
        assert errors[0].startswith("error: "), (line, err)
        assert len(errors[0]) <= LONGEST_MESSAGE + len("error: ")
    assert place.files() == before, line


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "work").mkdir()
    made = Place(tmp_path / "work")
    monkeypatch.chdir(made.path)
    return made


def many(examples: int) -> settings:
    return settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        derandomize=True,
        phases=[Phase.generate],  # shrinking a case of a second each would take an hour
    )


@pytest.mark.parametrize("examples", [8, SLOW])
def test_config_values(place: Place, examples: int) -> None:
    @many(examples)
    @given(OVERRIDES)
    def run(overrides: list[tuple[str, str, str]]) -> None:
        line = [f"{sign}{key}={value}" for sign, key, value in overrides]
        check(place, [text for text in line if not text.startswith("-")])

    run()


def as_file(kind: str, rows: list[tuple[str, str]]) -> bytes:
    if kind == "csv":
        return "\n".join(["review,stars", *(f'"{a}",{b}' for a, b in rows)]).encode()
    if kind == "tsv":
        return "\n".join(["review\tstars", *(f"{a}\t{b}" for a, b in rows)]).encode()
    if kind == "jsonl":
        return "\n".join(json.dumps({"review": a, "stars": b}) for a, b in rows).encode()
    sink = io.BytesIO()
    pq.write_table(pa.table({"review": [a for a, _ in rows], "stars": [b for _, b in rows]}), sink)
    return sink.getvalue()


INSERTS = st.one_of(st.binary(max_size=6), st.just(b'"'), st.just(b"\n"))
EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 12), INSERTS), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", [8, SLOW])
def test_data_files(place: Place, examples: int) -> None:
    rows = [(f"text {i}", "good" if i % 2 else "bad") for i in range(8)]

    @many(examples)
    @given(st.sampled_from(["csv", "tsv", "jsonl", "parquet"]), EDITS, st.sampled_from(["b.csv", "0.3"]))
    def run(kind: str, edits: list[tuple[int, int, bytes]], dev: str) -> None:
        content = as_file(kind, rows)
        for at, cut, put in edits:
            start = at % (len(content) + 1)
            content = content[:start] + put + content[start + cut :]
        place.write(f"fuzz.{kind}", content)
        check(place, [*OWN.split(" "), f"task.train=fuzz.{kind}", f"task.dev={dev}"])

    run()


@pytest.mark.parametrize("examples", [8, SLOW])
def test_encoder_folders(place: Place, examples: int) -> None:
    whole = {name: (place.path / "enc" / name).read_bytes() for name in ("config.json", "model.safetensors")}

    @many(examples)
    @given(st.sampled_from(sorted(whole)), EDITS)
    def run(name: str, edits: list[tuple[int, int, bytes]]) -> None:
        content = whole[name]
        for at, cut, put in edits:
            start = at % (len(content) + 1)
            content = content[:start] + put + content[start + cut :]
        place.write(f"enc/{name}", content)
        check(place, OWN.split(" "))
        place.write(f"enc/{name}", whole[name])

    place.write("a.csv", GOOD)
    run()
