"""What a checkpoint's ``config.json`` calls its sizes, one row per supported architecture.

Loads no torch: a folder that cannot serve is refused before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST = 1_000_000  # of any size a transformer has


@dataclass(frozen=True)
class SizeKeys:
    """Names of the sizes in a config; `positions_used` of the position table no text can take."""

    hidden: str = "hidden_size"
    heads: str = "num_attention_heads"
    ffn: str = "intermediate_size"
    layers: str = "num_hidden_layers"
    inner_layers: str | None = None
    positions_used: int = 0


ARCHITECTURES: dict[str, SizeKeys] = {
    "bert": SizeKeys(),
    "roberta": SizeKeys(positions_used=2),
    "xlm-roberta": SizeKeys(positions_used=2),
    "electra": SizeKeys(),
    "mpnet": SizeKeys(positions_used=2),
    "distilbert": SizeKeys(hidden="dim", heads="n_heads", ffn="hidden_dim", layers="n_layers"),
    "albert": SizeKeys(inner_layers="inner_group_num"),
}


OURS = ("sharcs", "sharcs_exits", "sharcs_skim")  # the model types of this project, whose configs hold an encoder's


@dataclass(frozen=True)
class EncoderSizes:
    """Full sizes of an encoder; `max_tokens` is the longest input it can read."""

    hidden: int
    heads: int
    ffn: int
    layers: int
    max_tokens: int


def check_architecture(model_type: str | None) -> None:
    """``ValueError`` listing the supported architectures unless ``model_type`` is one of them."""
    if model_type not in ARCHITECTURES:
        supported = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(f"encoder.pretrained: architecture {model_type!r} is not supported; supported: {supported}")


def encoder_sizes(config: Mapping[str, Any]) -> EncoderSizes:
    """Sizes from a parsed ``config.json``; ``ValueError`` for an unsupported architecture or a missing size."""
    model_type = config.get("model_type")
    check_architecture(model_type)
    keys = ARCHITECTURES[str(model_type)]

    def size(name: str) -> int:
        value = config.get(name)
        if type(value) is not int or not 1 <= value <= _LARGEST:
            raise ValueError(f"encoder.pretrained: its config.json has {name}={str(value)[:40]}, not a size")
        return value

    inner = size(keys.inner_layers) if keys.inner_layers and keys.inner_layers in config else 1
    positions = size("max_position_embeddings") - keys.positions_used
    return EncoderSizes(size(keys.hidden), size(keys.heads), size(keys.ffn), size(keys.layers) * inner, positions)
