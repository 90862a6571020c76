"""The progress of a prediction of many files: a bar on a terminal; in a log a line per file, and now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType

from sharcs_pl.inference.journal import Record

_SECONDS_OF_LOG = 60.0  # between two lines about a file
_SECONDS_OF_BAR = 0.2


class FilesProgress:
    """What is told on stderr while files are answered. `left` is the size of the inputs that are to be answered, in
    bytes; `done` of the `files` are finished already. Time is estimated by the bytes."""

    def __init__(self, files: int, done: int, left: int) -> None:
        self._files, self._done = files, done
        self._left, self._read = float(left), 0.0  # bytes
        self._texts, self._counts = 0, []
        self._widths: Sequence[str] = ()
        self._name, self._per_row = "", 0.0
        self._start: float | None = None
        self._told = time.monotonic()
        self._bar = _Bar(left) if sys.stderr.isatty() else None
        self._pause = _SECONDS_OF_LOG if self._bar is None else _SECONDS_OF_BAR
        self._held = ExitStack()

    def __enter__(self) -> FilesProgress:
        if self._bar is not None:
            self._held.enter_context(self._bar.shown)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._held.close()

    def begin(self, name: str, size: int, rows: int, done: int, widths: Sequence[str]) -> None:
        """Begin a file of so many bytes and rows, of which some are `done`, by a model of these widths."""
        if self._start is None:
            self._start, self._widths, self._counts = time.monotonic(), widths, [0] * len(widths)
        self._name, self._per_row = name, size / rows
        self._left -= done * self._per_row
        self._tell(self._pause)

    def add(self, record: Record) -> None:
        """Count a row."""
        self._left -= self._per_row
        self._read += self._per_row
        if isinstance(record, dict):
            self._texts += 1
            self._counts[record["rung"]] += 1
        self._tell(self._pause)

    def end(self) -> None:
        """End a file that is finished."""
        self._done += 1
        self._tell(0.0)

    def drop(self, name: str, size: int) -> None:
        """Leave a file out, which cannot be answered or which another process has answered."""
        self._name = name
        self._left -= size

    def line(self) -> str:
        """Return where the prediction is."""
        seconds = 0.0 if self._start is None else time.monotonic() - self._start
        shares = [
            f"{width}: {count / max(self._texts, 1):.0%}"
            for width, count in zip(self._widths, self._counts, strict=True)
        ]
        left = str(timedelta(seconds=round(seconds * max(self._left, 0.0) / self._read))) if self._read else "unknown"
        told = [f"{self._done:,} of {self._files:,} files", f"{self._texts / max(seconds, 1e-9):,.1f} texts/s"]
        return ", ".join([*told, f"widths {' '.join(shares)}", f"left {left}"])

    def _tell(self, seconds: float) -> None:
        now = time.monotonic()
        if now - self._told < seconds:
            return
        self._told = now
        if self._bar is None:
            print(f"{self._name}: {self.line()}", file=sys.stderr, flush=True)
        else:
            self._bar.update(self._name, self.line(), self._left)


class _Bar:
    def __init__(self, left: int) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        from sharcs_pl.core.screen import Screen

        told = TextColumn("{task.description}", markup=False)
        self.shown = Progress(BarColumn(), TaskProgressColumn(), told, console=Screen(stderr=True))
        self._total = left
        self._task = self.shown.add_task("", total=max(left, 1))

    def update(self, name: str, line: str, left: float) -> None:
        from sharcs_pl.core.text import one_line

        self.shown.update(self._task, completed=self._total - left, description=f"{line}, {one_line(name)}")
