"""The importance of a head or a feed-forward neuron: the change of the loss without it, to first order; and its figure.

The measure is due to Michel et al. 2019 (arXiv 1905.10650, equation 2), as DynaBERT (Hou et al. 2020, section 3.1) uses
it to decide which heads and neurons a narrow network keeps.

Dimensions: `B` batch, `L` tokens, `n` layers, `N` heads, `H` head size, `F` feed-forward neurons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sharcs_pl.analysis.figures.style import WIDTH, canvas, have_matplotlib
from sharcs_pl.core.files import atomic_file
from sharcs_pl.models.families import get_family
from sharcs_pl.models.order import Order, watching
from sharcs_pl.models.router import task_loss
from sharcs_pl.training.head import only_training

_BANDS = 48  # of neurons in the figure


@dataclass(frozen=True)
class Importance:
    """The expected absolute change of a sample's loss: `heads` [n, N] and `neurons` [n, F], over `samples` samples."""

    heads: Tensor
    neurons: Tensor
    samples: int


def measure(stock: Any, batches: Iterable[dict[str, Tensor]]) -> Importance:
    """Measure the importance of every head and neuron of a stock model, in evaluation mode, over batches with `labels`.

    For a part's output h of one sample, [L, H] of a head or [L] of a neuron, it is the mean over samples of |sum(h *
    dloss/dh)|. The absolute value is taken per sample, so the batch size does not matter; gradients are taken of
    activations alone, so none is left from one batch to the next.
    """
    size = get_family(stock.config.model_type).size(stock.config)
    depths = len(get_family(stock.config.model_type).depth_order(stock))
    sums = {"attention_out": torch.zeros(depths, size.heads), "ffn_out": torch.zeros(depths, size.ffn)}
    samples = 0
    for batch in batches:
        for (part, depth), change in _changes(stock, batch).items():
            # [B, L, N·H] by head, [B, L, F] by neuron: summed over tokens (and H) before the absolute value.
            parts = change.sum(1).unflatten(-1, (sums[part].shape[1], -1)).sum(-1)
            sums[part][depth] += parts.abs().sum(0).cpu()
        samples += len(batch["labels"])
    return Importance(sums["attention_out"] / samples, sums["ffn_out"] / samples, samples)


def _changes(stock: Any, batch: dict[str, Tensor]) -> dict[tuple[str, int], Tensor]:
    """Return `h * dloss/dh` of all that enters the output projections, by part and depth, each [B, L, any]."""
    seen: dict[tuple[str, int], Tensor] = {}

    def keep(part: str, depth: int, value: Tensor) -> Tensor:
        seen[part, depth] = value if value.requires_grad else value.detach().requires_grad_()
        return seen[part, depth]

    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with (
        only_training(stock, set()),  # the gradients of activations are all that is needed
        torch.enable_grad(),
        watching(stock, "attention_out", lambda depth, value: keep("attention_out", depth, value)),
        watching(stock, "ffn_out", lambda depth, value: keep("ffn_out", depth, value)),
    ):
        logits = stock(**inputs).logits
        loss = task_loss(logits, batch["labels"], stock.config.num_labels, reduction="none").sum()
        grads = torch.autograd.grad(loss, list(seen.values()))
    return {key: value.detach() * grad for (key, value), grad in zip(seen.items(), grads, strict=True)}


def write_importance(path: Path, importance: Importance, order: Order) -> None:
    """Write a row per head and neuron: original layer and index in the encoder, importance, and place in the order."""
    tables = [
        _rows("head", importance.heads, order.heads),
        _rows("neuron", importance.neurons, order.neurons),
    ]
    with atomic_file(path) as part:
        pq.write_table(pa.concat_tables(tables), part)


def _rows(part: str, importance: Tensor, order: Tensor) -> pa.Table:
    layers, count = importance.shape
    return pa.table(
        {
            "part": pa.array([part] * (layers * count)),
            "layer": np.repeat(np.arange(layers, dtype=np.int32), count),
            "index": np.tile(np.arange(count, dtype=np.int32), layers),
            "importance": importance.flatten().numpy(),
            "place": order.argsort(-1).flatten().numpy().astype(np.int32),
        }
    )


def draw_importance(importance: Importance, order: Order, path: Path) -> Path | None:
    """Draw heat maps of both, each row a layer and divided by its largest: heads as they came, with their places
    written in; neurons in their new order, averaged over bands. Return None without the extra ``[plots]``."""
    if not have_matplotlib():
        return None
    layers, heads = importance.heads.shape
    with canvas(path, (WIDTH + 0.3 * max(0, heads - 8), 1.6 + 0.42 * layers)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _heat(left, importance.heads.numpy(), "head, as it came (written: its new place)")
        for layer, places in enumerate(order.heads.argsort(-1).tolist()):
            for head, place in enumerate(places):
                left.text(head, layer, str(place), ha="center", va="center", fontsize=7, color="white").set_bbox(
                    {"facecolor": "black", "alpha": 0.35, "pad": 1, "edgecolor": "none"}
                )
        shade = _heat(right, _bands(importance.neurons.gather(1, order.neurons)), "feed-forward neurons, in new order")
        ticks = np.linspace(-0.5, shade.get_array().shape[1] - 0.5, 5)
        right.set_xticks(ticks, ["0", "¼", "½", "¾", "1"])
        left.set_ylabel("layer")
        left.set_yticks(range(layers), [str(layer + 1) for layer in range(layers)])
        figure.colorbar(shade, ax=[left, right], label="importance, of the layer's largest", location="top", aspect=40)
    return path


def _heat(axes: Any, values: np.ndarray, label: str) -> Any:
    scaled = values / np.maximum(values.max(1, keepdims=True), np.finfo(np.float32).tiny)
    axes.set_xlabel(label)
    return axes.imshow(scaled, aspect="auto", cmap="cividis", vmin=0, vmax=1)


def _bands(neurons: Tensor) -> np.ndarray:
    """Return means over bands of neighbouring neurons, [n, F] -> [n, at most `_BANDS`]."""
    return np.stack([band.mean(-1).numpy() for band in neurons.tensor_split(min(_BANDS, neurons.shape[1]), -1)], 1)
