"""An audit of the closed-form cost against a count of the multiply-adds that the model really computes.

fvcore traces one pass of one sample and counts the multiply-adds (MACs) of each operator it knows. It does not know
fused attention, so the count runs with eager attention, which does the same products. Matrix products and the weighted
sums of a learned reduction are compared, as `core.flops` counts them. fvcore's counts of norms are left out.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.text import Text
from torch import Tensor, nn
from transformers import PreTrainedConfig

from sharcs_pl.core.screen import new_table
from sharcs_pl.models.layers import LearnedPooling
from sharcs_pl.models.routed import SharcsForSequenceClassification

PRODUCTS = ("addmm", "bmm", "conv", "einsum", "linear", "matmul", "mm")
"""The operators that count, by fvcore's names."""

TOLERANCE = 0.005  # a larger difference, as a fraction, stands out in the table


@dataclass(frozen=True)
class AuditRow:
    """The MACs of one pass over one sample of `tokens` tokens, by the closed form and as counted on the model. `rung`
    names the rung's width, or the stock model as "dense"."""

    rung: str
    tokens: int
    analytic: int
    counted: int

    @property
    def difference(self) -> float:
        """The excess of the closed form over the count, as a fraction of the count."""
        return self.analytic / self.counted - 1


def audit(model: SharcsForSequenceClassification, lengths: Sequence[int]) -> list[AuditRow]:
    """Compare `model.cost` with a count of the stock model and of every rung, for one sample of each of `lengths`.

    A few lengths will do, since each costs a pass of the stock model and of every rung. The model stays as it is: a
    twin over the same weights runs, in evaluation mode.
    """
    twin = _eager_twin(model)
    widths = model.ladder.labels()
    rows = []
    for length in lengths:
        tokens = np.array([length])
        rows.append(AuditRow("dense", length, int(model.cost.dense_macs(tokens)[0]), _count(_Stock(twin), length)))
        for rung, analytic in enumerate(model.cost.rung_macs(tokens)[0].tolist()):
            rows.append(AuditRow(f"width {widths[rung]}", length, analytic, _count(_Rung(twin, rung), length)))
    return rows


class _Stock(nn.Module):
    """The stock model that the rungs are cut from."""

    def __init__(self, model: SharcsForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model.encoder(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits


class _Rung(_Stock):
    """The model with every sample on one rung. It returns the router's output too, or a trace would drop the router."""

    def __init__(self, model: SharcsForSequenceClassification, rung: int) -> None:
        super().__init__(model)
        self.rung = rung

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        output = self.model(input_ids=input_ids, rungs=self.rung)
        return tuple(x for x in (output.logits, output.router_logits) if x is not None)


def _eager_twin(model: SharcsForSequenceClassification) -> SharcsForSequenceClassification:
    """Return a copy over the same weights, in evaluation mode, whose layers all run eager attention."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared).eval()
    for module in twin.modules():
        config = vars(module).get("config")
        if isinstance(config, PreTrainedConfig):
            config._attn_implementation = "eager"
    return twin


def _count(run: _Stock, length: int) -> int:
    """Return the MACs of one sample of `length` tokens, all of them attended to."""
    with warnings.catch_warnings():  # fvcore uses torch.jit, which has been deprecated since
        warnings.simplefilter("ignore", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis
    ids = torch.zeros(1, length, dtype=torch.long, device=run.model.device)  # the choice of tokens changes no count
    counter = FlopCountAnalysis(run, ids).set_op_handle("aten::mul", _outputs)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "To copy construct from a tensor")  # of DeBERTa's own code, under a trace
        by_module = counter.by_module_and_operator()
    fused = [name for name in counter.unsupported_ops() if "attention" in name]
    assert not fused, fused
    pools = [name for name, module in run.named_modules() if isinstance(module, LearnedPooling)]
    return int(sum(by_module[""][name] for name in PRODUCTS) + sum(by_module[name]["mul"] for name in pools))


def _outputs(inputs: list[Any], outputs: list[Any]) -> int:
    """Count one multiply-add per element of an elementwise product."""
    return math.prod(outputs[0].type().sizes())


def audit_table(rows: Sequence[AuditRow]) -> RenderableType:
    """Return a rich table of both numbers per sample length and rung."""
    title = "MACs per sample: closed form against fvcore on the model"
    table = new_table(title, ("tokens", "", "closed form", "counted", "difference"))
    for i, row in enumerate(rows):
        style = "bold red" if abs(row.difference) > TOLERANCE else ""
        last = i + 1 < len(rows) and rows[i + 1].tokens != row.tokens
        cells = (row.rung, f"{row.analytic:,}", f"{row.counted:,}", f"{row.difference:+.2%}")
        table.add_row(f"{row.tokens:,}", *cells, style=style, end_section=last)
    left_out = (
        "Counted: matrix products, attention's included. Left out by both: norms, activations, softmax, look-ups."
    )
    return Group(table, Text(left_out, style="dim"))
