"""The reordering of heads and neurons in the middle of a training, by the texts that ``sharcs reorder`` would take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharcs_pl.analysis.reordering.importance import draw_importance, measure, write_importance
from sharcs_pl.analysis.reordering.texts import batches, drawn
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.models.order import Order, check_reorderable, leading_order
from sharcs_pl.training.reordering import ReorderInPlace

_SAMPLES, _BATCH = ReorderConfig.samples, ReorderConfig.batch_size


def build_reordering(after: int, model: Any, data: SharcsDataModule, seed: int, run_dir: Path) -> ReorderInPlace:
    """Build the callback that reorders after epoch ``after`` and keeps the importance in the run directory. Raise
    ``ValueError`` for an encoder that cannot be reordered."""
    try:
        check_reorderable(model.encoder)
    except ValueError as error:
        raise ValueError(f"width.reorder_after={after}: {error}; add width.reorder_after=null") from error

    def find(stock: Any) -> Order:
        importance = measure(stock, batches(drawn(data.train_table, _SAMPLES, seed), _BATCH, stock.device))
        order = leading_order(stock, importance.heads, importance.neurons)
        write_importance(run_dir / "importance.parquet", importance, order)
        figures = run_dir / "figures"
        figures.mkdir(exist_ok=True)
        draw_importance(importance, order, figures / "importance.png")
        return order

    return ReorderInPlace(after, find)
