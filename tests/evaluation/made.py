"""A small model's cost and its answers to five samples, whose every figure can be told by hand."""

from __future__ import annotations

import torch

from sharcs_pl.core.flops import CostModel, EncoderShape
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.evaluation.predictions import Predictions

SHAPE = EncoderShape(16, 4, 4, 32, 3, 2)
COST = CostModel(
    shape=SHAPE,
    ladder=WidthLadder.parse([0.25, 1]),
    split_layer=1,
    router_hidden_size=8,
    reduction="slice",
    has_router=True,
)


def one_hot(classes: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 2).float()


def predictions() -> Predictions:
    """Five samples of label 1; narrow right on 0, 1 and 4, top right on 0, 2 and 4; routed narrow: 0, 1, 2."""
    logits = torch.stack([one_hot([1, 1, 0, 0, 1]), one_hot([1, 0, 1, 0, 1])], 1)
    router = one_hot([0, 0, 0, 1, 1])
    return Predictions(
        uids=torch.arange(5),
        logits=logits,
        router_logits=router,
        rungs=router.argmax(-1),
        labels=torch.ones(5, dtype=torch.long),
        lengths=torch.tensor([4, 5, 6, 7, 8]),
        difficulty=torch.tensor([0, 0, 1, 2, 3]),
    )
