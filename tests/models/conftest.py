"""Tiny stock models with random weights, one per supported architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from sharcs_pl.models.families import get_family
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.models.surgery import surgery

Stock = Callable[..., PreTrainedModel]
Batch = dict[str, Tensor]

SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 48, "n_heads": 4, "hidden_dim": 64, "n_layers": 3},
    "electra": {"embedding_size": 20},
    "albert": {"embedding_size": 20},
    # Windows of two tokens to either side, in one of the two layers after the split and in one before.
    "modernbert": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "local_attention": 4,
        "cls_token_id": 2,
        "sep_token_id": 3,
    },
    # As DeBERTa-v3: more distances in a text than buckets, so that some share one.
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
}
BERT_SIZES = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 3}
PAD = {"roberta": 1, "xlm-roberta": 1, "mpnet": 1}


@pytest.fixture(autouse=True)
def _no_bars() -> Iterator[None]:
    hf_logging.disable_progress_bar()
    yield
    hf_logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads waiting for each other on a busy machine make these tiny products a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def stock() -> Stock:
    """stock(model_type, num_labels=3, attention=None, seed=0, **config): a stock model in evaluation mode whose every
    parameter is random: zero biases and unit norms would hide faults."""

    def make(
        model_type: str = "bert", num_labels: int = 3, attention: str | None = None, seed: int = 0, **values: Any
    ) -> PreTrainedModel:
        usual = {} if model_type == "distilbert" else BERT_SIZES
        sizes = {"vocab_size": 60, **usual, **SIZES.get(model_type, {}), **values}
        pad = PAD.get(model_type, 0)
        config = AutoConfig.for_model(
            model_type,
            max_position_embeddings=40,
            pad_token_id=pad,
            bos_token_id=2,
            eos_token_id=3,
            **sizes,
        )
        config.num_labels = num_labels
        config._attn_implementation = attention
        torch.manual_seed(seed)
        model = get_family(model_type).stock_class(config)
        randomise(model)
        return model.eval()

    return make


@pytest.fixture
def model(stock: Stock) -> SharcsForSequenceClassification:
    """A routed BERT of the widths 1/4, 1/2 and 1."""
    return surgery(stock("bert"))


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """batch(model_type, lengths=(9, 4, 7, 1, 9), extra=0, left=False): padded on the right or the left."""

    def make(
        model_type: str = "bert", lengths: tuple[int, ...] = (9, 4, 7, 1, 9), extra: int = 0, left: bool = False
    ) -> Batch:
        generator, longest = torch.Generator().manual_seed(1), max(lengths)
        ids = torch.full((len(lengths), longest + extra), PAD.get(model_type, 0))
        mask = torch.zeros_like(ids)
        for row, length in enumerate(lengths):
            place = slice(longest - length, longest) if left else slice(0, length)
            ids[row, place] = torch.randint(4, 60, (longest,), generator=generator)[:length]
            mask[row, place] = 1
        return {"input_ids": ids, "attention_mask": mask}

    return make


def randomise(module: torch.nn.Module, scale: float = 0.2) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
