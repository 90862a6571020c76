"""The names of sizes in a checkpoint's ``config.json``, one row per supported architecture.

Loads no torch, so that an unsuitable folder is refused before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sharcs_pl.core.errors import KeyFault

_LARGEST = 1_000_000  # upper bound for every size of a transformer


@dataclass(frozen=True)
class SizeKeys:
    """The names of the sizes in a config. `positions_used`: rows of the position table that no token can use.

    `pre_norm`: norms run before their blocks, and the residual stream is normalised only after the last layer.
    `written_out`: inference and export write out the layers as products (`LayerParts`); other layers run unchanged and
    cannot be exported. `absent`: keys that must be 0 or missing, since surgery does not cut the parts that they add.
    `positions_in_layers`: every layer reads the positions of tokens, so that no token can be skipped.
    """

    hidden: str = "hidden_size"
    heads: str = "num_attention_heads"
    ffn: str = "intermediate_size"
    layers: str = "num_hidden_layers"
    inner_layers: str | None = None
    positions_used: int = 0
    pre_norm: bool = False
    written_out: bool = True
    absent: tuple[str, ...] = ()
    positions_in_layers: bool = False


ARCHITECTURES: dict[str, SizeKeys] = {
    "bert": SizeKeys(),
    "roberta": SizeKeys(positions_used=2),
    "xlm-roberta": SizeKeys(positions_used=2),
    "electra": SizeKeys(),
    "mpnet": SizeKeys(positions_used=2, positions_in_layers=True),
    "distilbert": SizeKeys(hidden="dim", heads="n_heads", ffn="hidden_dim", layers="n_layers"),
    "albert": SizeKeys(inner_layers="inner_group_num"),
    "modernbert": SizeKeys(pre_norm=True, written_out=False, positions_in_layers=True),
    "deberta-v2": SizeKeys(written_out=False, absent=("conv_kernel_size",), positions_in_layers=True),
}


OURS = ("sharcs", "sharcs_exits", "sharcs_skim")  # the model types of this project, whose configs hold an encoder's


@dataclass(frozen=True)
class EncoderSizes:
    """The full sizes of an encoder. `max_tokens` is its longest input. `pre_norm` is explained in `SizeKeys`."""

    hidden: int
    heads: int
    ffn: int
    layers: int
    max_tokens: int
    pre_norm: bool = False
    model_type: str = ""


def check_architecture(model_type: str | None) -> None:
    """Raise ``ValueError`` listing the supported architectures unless ``model_type`` is one of them."""
    if model_type not in ARCHITECTURES:
        supported = ", ".join(sorted(ARCHITECTURES))
        raise KeyFault("encoder.pretrained", f": architecture {model_type!r} is not supported; supported: {supported}")


def check_absent(keys: SizeKeys, config: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if a config has a part that surgery does not cut."""
    for name in keys.absent:
        if config.get(name):
            raise KeyFault("encoder.pretrained", f": its config.json has {name}={config[name]}, which is not supported")


def check_norm_after_cut(top_rung_norm: bool, pre_norm: bool) -> None:
    """Raise ``ValueError`` if a norm after the cut is requested that the architecture has on no rung."""
    if top_rung_norm and pre_norm:
        raise ValueError(
            "width.top_rung_norm=true does not fit an encoder whose layers begin with their norms (modernbert): "
            "no rung has a norm of its own between the cut and the first layer's"
        )


def check_skimmable(model_type: str) -> None:
    """Raise ``ValueError`` listing the architectures that can skip tokens unless ``model_type`` is one of them."""
    if ARCHITECTURES[model_type].positions_in_layers:
        fitting = ", ".join(sorted(name for name, keys in ARCHITECTURES.items() if not keys.positions_in_layers))
        raise ValueError(f"method.skim_weight: cannot remove tokens of a {model_type} encoder; what fits: {fitting}")


def check_written_out(model_type: str) -> None:
    """Raise ``ValueError`` listing the architectures that can be exported unless ``model_type`` is one of them."""
    if not ARCHITECTURES[model_type].written_out:
        fitting = ", ".join(sorted(name for name, keys in ARCHITECTURES.items() if keys.written_out))
        raise ValueError(f"a model of architecture {model_type!r} cannot be exported; those that can: {fitting}")


def encoder_sizes(config: Mapping[str, Any]) -> EncoderSizes:
    """Return the sizes in a parsed ``config.json``. Raise ``ValueError`` if it lacks one or is unsupported."""
    model_type = config.get("model_type")
    check_architecture(model_type)
    keys = ARCHITECTURES[str(model_type)]
    check_absent(keys, config)

    def size(name: str) -> int:
        value = config.get(name)
        if type(value) is not int or not 1 <= value <= _LARGEST:
            raise KeyFault("encoder.pretrained", f": its config.json has {name}={str(value)[:40]}, not a size")
        return value

    inner = size(keys.inner_layers) if keys.inner_layers and keys.inner_layers in config else 1
    positions = size("max_position_embeddings") - keys.positions_used
    hidden, heads, ffn, layers = map(size, (keys.hidden, keys.heads, keys.ffn, keys.layers))
    return EncoderSizes(hidden, heads, ffn, layers * inner, positions, keys.pre_norm, str(model_type))
