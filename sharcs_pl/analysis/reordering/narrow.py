"""The worth of an encoder's leading heads and neurons alone, before any training of the tail.

The layers after the split are cut in two ways: as a rung is, hidden dims included, and as DynaBERT (Hou et al. 2020)
does, which keeps the hidden size and cuts heads and neurons only, so that the order decides alone.

Dimensions: `S` samples, `C` labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.models.order import watching
from sharcs_pl.models.routed import SharcsForSequenceClassification

RUNG, KEPT = "rung", "hidden_kept"
CUTS = (RUNG, KEPT)


@dataclass(frozen=True)
class NarrowLogits:
    """Logits [S, C] by (cut, rung) for every cut, and `labels` [S]; the top rung is the stock model."""

    logits: dict[tuple[str, int], Tensor]
    labels: Tensor


@torch.inference_mode()
def narrow_logits(stock: Any, batches: Iterable[dict[str, Tensor]], ladder: WidthLadder, split: int) -> NarrowLogits:
    """Run every sample at every rung under both cuts, from batches with `labels`."""
    routed = SharcsForSequenceClassification.from_encoder(stock, widths=ladder.widths, split_layer=split)
    found: dict[tuple[str, int], list[Tensor]] = {(cut, rung): [] for cut in CUTS for rung in range(len(ladder))}
    labels = []
    for batch in batches:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        labels.append(batch["labels"].cpu())
        every = routed.all_rungs(**inputs).logits
        for rung in range(len(ladder)):
            found[RUNG, rung].append(every[:, rung].cpu())
            found[KEPT, rung].append(hidden_kept(stock, inputs, ladder, rung, split).cpu())
    return NarrowLogits({key: torch.cat(parts) for key, parts in found.items()}, torch.cat(labels))


def hidden_kept(stock: Any, inputs: dict[str, Tensor], ladder: WidthLadder, rung: int, split: int) -> Tensor:
    """Return logits [S, C] of the stock model whose layers after `split` keep their leading heads and neurons only. The
    others' outputs are set to nought, which is what cutting them gives."""

    def cut(depth: int, value: Tensor) -> Tensor:
        if depth < split:
            return value
        kept = ladder.size(rung, value.shape[-1])
        return torch.cat([value[..., :kept], torch.zeros_like(value[..., kept:])], -1)

    with ExitStack() as stack:
        for part in ("attention_out", "ffn_out"):
            stack.enter_context(watching(stock, part, cut))
        return stock(**inputs).logits
