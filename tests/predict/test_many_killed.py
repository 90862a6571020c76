"""A prediction of many files that is killed again and again ends as if it had never been."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest

from tests.commands import ROOT, run_line
from tests.predict.conftest import texts_of, write_texts


@pytest.mark.parametrize(("files", "kills"), [(6, 3), pytest.param(40, 20, marks=pytest.mark.slow)])
def test_after_every_kill_the_outputs_are_whole_and_in_the_end_all_there(
    model: Path, tmp_path: Path, files: int, kills: int
) -> None:
    draw = random.Random(files)
    (tmp_path / "data" / "x").mkdir(parents=True)
    for number in range(files):
        texts = [*texts_of(draw.randint(20, 60), number), *[""] * (number % 3 == 0)]
        folder = tmp_path / "data" / ("x" if number % 2 else "")
        if number % 4:
            write_texts(folder / f"{number:02}{('.jsonl', '.csv', '.parquet')[number % 3]}", texts)
        else:
            (folder / f"{number:02}.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    words = ["tests.predict.kills", str(model), "data", ".", "7", str(kills)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run_line(words, cwd=tmp_path, env=environment, timeout=1800, kind="loaded")
    assert done.returncode == 0, done.stderr
    *starts, last = done.stdout.splitlines()
    assert sum("status=-9" in line for line in starts) == kills
    assert all(" status=0 " in line or " status=-9 " in line for line in starts), done.stdout
    assert all(line.endswith(" wrong=[]") for line in starts), done.stdout
    assert last == "missing=[] left=[]"
