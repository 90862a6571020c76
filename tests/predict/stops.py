"""Predictions that are stopped at a row."""

from __future__ import annotations

from typing import Any

import pytest

from sharcs_pl.inference.journal import Journal


def stop_after(monkeypatch: pytest.MonkeyPatch, rows: int, error: BaseException) -> None:
    """Have the command stopped once it has written that many rows of a file."""
    add = Journal.add

    def stopping(self: Journal, record: Any) -> None:
        if self.rows == rows:
            raise error
        add(self, record)

    monkeypatch.setattr(Journal, "add", stopping)
