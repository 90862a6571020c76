"""A routed model that answers texts, whatever runtime runs it. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sharcs_pl.core.flops import CostModel
from sharcs_pl.data.tokens import Tokens
from sharcs_pl.inference.engine import Engine


@dataclass(frozen=True)
class ServedModel:
    """An engine behind a tokenizer, and the facts in which its answers are told.

    `tokenizer` is the library's own object. `tokenize` maps rows of one text or two to token ids, cut at `max_length`.
    `labels` are the names of the classes, None for a regression. `thresholds`: of a model that gives any number
    of labels, the probability of each from which on it is given; None for any other model.
    """

    engine: Engine
    tokenizer: Any
    tokenize: Callable[[list[tuple[str, ...]]], Tokens]
    max_length: int
    labels: tuple[str, ...] | None
    cost: CostModel
    thresholds: tuple[float, ...] | None = None
