"""What is told while many files are answered."""

from __future__ import annotations

from typing import Any

import pytest

from sharcs_pl.inference import files_progress
from sharcs_pl.inference.files_progress import FilesProgress

ANSWERS: list[Any] = [{"rung": 0}, {"rung": 1}, {"rung": 0}, [4, "line 5", "bad"]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(files_progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_per_file_and_one_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with FilesProgress(files=5, done=1, left=1000) as progress:
        clock[0] += 30  # for the model to load, which tells nothing of the texts
        progress.begin("a.csv", 400, rows=8, done=4, widths=("0.5", "1"))
        for record in ANSWERS:
            clock[0] += 1
            progress.add(record)
        progress.end()
        progress.drop("c.csv", 200)
        progress.begin("b.csv", 400, rows=4, done=0, widths=("0.5", "1"))
        for _ in range(2):
            clock[0] += 40
            progress.add({"rung": 1})
    first, second = capsys.readouterr().err.splitlines()
    # 200 of the 800 bytes that were to be answered took 4 s, the other 600 take 12.
    assert first == "a.csv: 2 of 5 files, 0.8 texts/s, widths 0.5: 67% 1: 33%, left 0:00:12"
    # After 84 s 400 bytes are answered, and 200 of b.csv are left.
    assert second == "b.csv: 2 of 5 files, 0.1 texts/s, widths 0.5: 40% 1: 60%, left 0:00:42"


def test_files_that_another_process_has_answered_are_told(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with FilesProgress(files=2, done=0, left=100) as progress:
        progress.drop("a.csv", 60)
        progress.end()
    assert capsys.readouterr().err == "a.csv: 1 of 2 files, 0.0 texts/s, widths , left unknown\n"


def test_a_terminal_has_a_bar(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, str, float]] = []
    monkeypatch.setattr(files_progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(files_progress._Bar, "update", lambda self, *what: shown.append(what))
    with FilesProgress(files=2, done=0, left=100) as progress:
        progress.begin("a.csv", 100, rows=2, done=0, widths=("1",))
        for _ in range(2):
            clock[0] += 1
            progress.add({"rung": 0})
        progress.end()
    assert [left for _, _, left in shown] == [50, 0, 0]
    assert shown[0][:2] == ("a.csv", "0 of 2 files, 1.0 texts/s, widths 1: 100%, left 0:00:01")


def test_the_bar_draws_names_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bar = files_progress._Bar(10)
    with bar.shown:
        bar.update("a[red]\n.csv", "1 of 2 files", 5)
    assert "50% 1 of 2 files, a[red] .csv" in " ".join(capsys.readouterr().err.split())
