"""The tiny models that clients are tried with."""

from __future__ import annotations

from tests.models.conftest import _no_bars, _one_thread, batch, model, stock

__all__ = ["_no_bars", "_one_thread", "batch", "model", "stock"]
