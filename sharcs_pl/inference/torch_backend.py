"""The backend that runs a routed model's parts with torch, on any device.

Dimensions: `B` batch, `L` tokens, `T` real tokens of all samples, `D` hidden, `W` rungs, `C` labels; an index `i` marks
the dimension at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.data.spec import Examples
from sharcs_pl.data.table import tokenize
from sharcs_pl.data.tokens import Tokens
from sharcs_pl.inference.batches import Backend, Batch, row_places
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.fused import FusedModel
from sharcs_pl.inference.layout import Layout, layout_of
from sharcs_pl.inference.plain import RungTail
from sharcs_pl.inference.served import ServedModel
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.pretrained import cast
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.vocabulary import check_tokenizer, num_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PACK_ABOVE = 0.05  # share of padding from where on packing was no slower at any shape measured (2 CPU cores)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchBackend(Backend):
    """The parts of a model. It reads the model's own weights: train or load into another one meanwhile.

    Args:
        precision: "float32", or "bfloat16" (a copy of the model; the router's weights, mean and logits stay float32).
        compile: `torch.compile` for the trunk and for each rung, with dynamic shapes.
        pack_narrow: contiguous copies of the narrow rungs' weights; `fused.packed_bytes` says what they take.
        pack_above: tokens are packed where more than this share of a batch or group would be padding; 1 for never.
        compile_backend: backend of `torch.compile`.
    """

    def __init__(
        self,
        model: SharcsForSequenceClassification,
        *,
        precision: str = "float32",
        compile: bool = False,
        pack_narrow: bool = True,
        pack_above: float = PACK_ABOVE,
        compile_backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        model.config.check_all_tokens()
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision} is unknown; choose one of: {', '.join(PRECISIONS)}")
        dtype = PRECISIONS[precision]
        self.model = model.eval() if model.dtype == dtype else cast(copy.deepcopy(model).eval(), dtype)
        self.num_rungs, self.num_labels = len(model.ladder), model.shape.num_labels
        self.has_router = model.router is not None
        router = model.router if self.model is model else copy.deepcopy(model.router)
        self.fused = FusedModel(self.model, pack_narrow, router).eval()
        self.compiled = compile
        self.pack_above = 1.0 if compile else pack_above  # one graph for batches with and without padding
        if compile:
            for part in (self.fused.trunk, *self.fused.tails):
                part.compile(dynamic=True, backend=compile_backend)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    @torch.inference_mode()
    def trunk(self, batch: Batch, route: bool) -> tuple[Tensor, np.ndarray | None]:
        """Run the trunk as `Backend.trunk` says."""
        layout = self.layout(batch.lengths)
        types = None if batch.token_type_ids is None else self._put(batch.token_type_ids)
        hidden, logits = self.fused.trunk(self._put(batch.input_ids), types, layout, route)
        return self._packed(hidden, layout, batch.lengths), None if logits is None else logits.cpu().numpy()

    @torch.inference_mode()
    def tail(self, rung: int, hidden: Tensor, lengths: np.ndarray) -> Tensor:
        """Start a tail as `Backend.tail` says."""
        layout, tail = self.layout(lengths), self.fused.tails[rung]
        assert isinstance(tail, RungTail)
        return tail(self._laid_out(tail.enter(hidden), layout, lengths), layout).float()

    def read(self, logits: Tensor) -> np.ndarray:
        """Return logits as `Backend.read` says."""
        return logits.cpu().numpy()

    def layout(self, lengths: np.ndarray) -> Layout:
        """Return the layout in which samples of these lengths, int64 [B], run."""
        return layout_of(lengths, self.pack_above, self.compiled, self.device)

    def _packed(self, hidden: Tensor, layout: Layout, lengths: np.ndarray) -> Tensor:
        """Return the trunk's output as packed tokens [T, D]."""
        if layout.places is not None:
            return hidden
        flat = hidden.flatten(0, 1)
        return flat if layout.mask is None else flat[self._places(lengths)]

    def _laid_out(self, tokens: Tensor, layout: Layout, lengths: np.ndarray) -> Tensor:
        """Return packed tokens [T, D_i] in the form that a layout has them."""
        if layout.places is not None:
            return tokens
        if layout.mask is None:
            return tokens.unflatten(0, (len(lengths), -1))
        return Layout(layout.mask, self._places(lengths)).spread(tokens)

    def _places(self, lengths: np.ndarray) -> Tensor:
        return self._put(row_places(lengths, int(lengths.max())))

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def torch_engine(model: SharcsForSequenceClassification, *, point: str | None = None, **options: Any) -> Engine:
    """Return an engine of a model at an operating point, by default the one in use; `options` are those of
    `TorchBackend`. Raise `ValueError` for a rule that the model cannot have."""
    rule = rule_of(model, point)
    return Engine(TorchBackend(model, **options), rule)


def rule_of(model: SharcsForSequenceClassification, point: str | None) -> DecisionRule:
    """Return the rule of an operating point. Raise `ValueError` where the model cannot have it."""
    rule = model.config.decision(point)
    if rule.cascades or rule.starts is not None:  # without a router, the rule of training takes the top rung
        rule.check(model.ladder.labels(), model.router is not None, model.shape.num_labels)
    return rule


def serve(
    model: SharcsForSequenceClassification, tokenizer: PreTrainedTokenizerFast, max_length: int | None, **options: Any
) -> ServedModel:
    """Return a model behind its tokenizer; `options` are those of `torch_engine`. Texts are cut at `max_length` tokens,
    None for the tokenizer's, at most what the encoder reads."""
    length = check_length(model, tokenizer, max_length)
    own = copy.deepcopy(tokenizer)  # a call sets where it cuts, so threads must not share it
    tokenize = partial(tokenize_rows, tokenizer=own, max_length=length)
    engine, names = torch_engine(model, **options), class_names(model)
    return ServedModel(engine, own, tokenize, length, names, model.cost, model.thresholds)


def check_length(
    model: SharcsForSequenceClassification, tokenizer: PreTrainedTokenizerFast, max_length: int | None
) -> int:
    """Return the number of tokens at which texts are cut. Raise `ValueError` for a tokenizer of another model."""
    check_tokenizer("the model", tokenizer, num_embeddings(model.config.to_dict()))
    return min(max_length or tokenizer.model_max_length, encoder_sizes(model.config.encoder).max_tokens)


def tokenize_rows(rows: list[tuple[str, ...]], tokenizer: PreTrainedTokenizerFast, max_length: int) -> Tokens:
    """Return the token ids of rows of one text or two."""
    return tokenize(Examples(rows, np.zeros(len(rows), np.int64)), tokenizer, max_length)


def class_names(model: SharcsForSequenceClassification) -> tuple[str, ...] | None:
    """Return the names of the classes; None for a regression."""
    count: int = model.shape.num_labels
    names: dict[int, str] = model.config.id2label  # pyright: ignore[reportAssignmentType]
    return None if count == 1 else tuple(names[number] for number in range(count))
