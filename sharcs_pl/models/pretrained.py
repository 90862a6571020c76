"""Stock encoders from a folder, a hub id, a model object or a config, ready for surgery."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from sharcs_pl.models.encoder_sizes import check_absent
from sharcs_pl.models.families import Family, get_family

Source = str | Path | PreTrainedModel

_CACHE_LINE = 64  # bytes
_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def load_stock(source: Source, num_labels: int | None = None, dropout: float | None = None) -> PreTrainedModel:
    """Return the stock `...ForSequenceClassification` model of `source`, in evaluation mode.

    `source` is a folder, a hub id (loaded as float32), or a model object of a supported architecture with or without a
    head (copied with its dtype and attention implementation). `num_labels` and `dropout` (of embeddings, attention,
    layers and head) replace the checkpoint's if given. A head that is missing or of another size is drawn from the
    global torch generator, so seed it first. Raise `ValueError` if the architecture is not supported, the checkpoint
    does not exist, or any other weight is missing.
    """
    if isinstance(source, PreTrainedModel):
        return _from_object(source, num_labels, dropout)
    return load_checkpoint(str(source), num_labels, dropout)[0]


def stock_from_dict(encoder: dict[str, Any], num_labels: int, attention: str | None) -> PreTrainedModel:
    """Return a stock model with fresh weights from its config as a dict. `attention`: its kernel, if supported."""
    family = get_family(encoder["model_type"])
    values = {key: value for key, value in encoder.items() if key not in ("model_type", "id2label", "label2id")}
    config = AutoConfig.for_model(family.model_type, **values)
    config.num_labels = num_labels
    if family.stock_class._supports_sdpa:
        config._attn_implementation = attention
    return family.stock_class(config)


def saved_type(source: Any = None, *args: Any, config: Any = None, **kwargs: Any) -> str | None:
    """Return the `model_type` of a checkpoint from the arguments of `from_pretrained`, None where a config is given."""
    if source is None or config is not None:
        return None
    where = {key: kwargs[key] for key in _HUB_ARGUMENTS if key in kwargs}
    found, _ = PreTrainedConfig.get_config_dict(source, **where)
    return str(found.get("model_type"))


def load_checkpoint(
    source: str, num_labels: int | None = None, dropout: float | None = None
) -> tuple[PreTrainedModel, set[str]]:
    """Return `load_stock` of a folder or a hub id, and the names of the head's freshly drawn parameters."""
    try:
        config = AutoConfig.from_pretrained(source)
    except OSError as error:
        raise ValueError(f"encoder.pretrained: no checkpoint at {source!r}: {error}") from error
    family = get_family(config.model_type)
    _adapt(family, config, num_labels, dropout)
    try:
        with _quiet():
            model, report = family.stock_class.from_pretrained(
                source, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except (pickle.UnpicklingError, OSError) as error:
        raise ValueError(f"encoder.pretrained: {source!r} cannot be read as weights alone: {error}") from error
    reinitialized = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    _check_complete(family, source, reinitialized)
    check_finite(model, f"encoder.pretrained={source}")
    return model.eval(), reinitialized


def _from_object(source: PreTrainedModel, num_labels: int | None, dropout: float | None) -> PreTrainedModel:
    family = get_family(source.config.model_type)
    config = copy.deepcopy(source.config)
    _adapt(family, config, num_labels, dropout)
    model = cast(family.stock_class(config), source.dtype, source.device)
    missing = _copy_weights(source, model, family)
    _check_complete(family, type(source).__name__, missing)
    return model.eval()


def _copy_weights(source: nn.Module, model: PreTrainedModel, family: Family) -> list[str]:
    """Copy every tensor that both models have in the same shape. Return the names that `model` did not get."""
    bare = not hasattr(source, family.base)
    weights = {f"{family.base}.{name}" if bare else name: value for name, value in source.state_dict().items()}
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict({name: _twin(value) for name, value in fitting.items()}, strict=False, assign=True)
    return sorted(set(own) - set(fitting))


def _twin(tensor: Tensor) -> Tensor:
    """Return a copy at the original's offset from a cache line. The rounding of matrix-vector products on CPUs depends
    on the offset, which is arbitrary for tensors mapped from a safetensors file."""
    size = tensor.element_size()
    buffer = tensor.new_empty(tensor.numel() + _CACHE_LINE // size)
    start = (tensor.data_ptr() - buffer.data_ptr()) % _CACHE_LINE // size
    return buffer[start : start + tensor.numel()].view(tensor.shape).copy_(tensor)


def check_finite(model: nn.Module, what: str) -> None:
    """Raise `ValueError` beginning with `what`, the key and its value, unless every weight is finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            kind = "NaN" if bool(tensor.isnan().any()) else "infinity"
            raise ValueError(f"{what} holds {kind} in its weights ({name}): its training has diverged, use another one")


def align(model: nn.Module) -> None:
    """Move parameters from a mapped file onto cache lines, like fresh parameters, so that a saved and reloaded model
    reproduces its logits bit for bit (see `_twin`)."""
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.data_ptr() % _CACHE_LINE:
            parameter.data = parameter.data.clone()


def cast(model: Any, dtype: torch.dtype, device: torch.device | None = None) -> Any:
    """Move `model` to `device` with parameters in `dtype`. Buffers keep their dtype, as in transformers, because the
    frequencies of rotary positions need more precision than bfloat16."""
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def _adapt(family: Family, config: Any, num_labels: int | None, dropout: float | None) -> None:
    if getattr(config, "is_decoder", False):
        raise ValueError("encoder.pretrained: a decoder (is_decoder in its config) cannot be routed")
    check_absent(family.keys, config.to_dict())
    if num_labels is not None:
        config.num_labels = num_labels
    if dropout is not None:
        family.with_dropout(config, dropout)


def _check_complete(family: Family, source: str, missing: Iterable[str]) -> None:
    lost = sorted(name for name in missing if not name.startswith(family.head_prefixes))
    if lost:
        shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise ValueError(f"encoder.pretrained: {source!r} lacks weights of a {family.model_type} encoder: {shown}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bar and its report on missing keys, which are checked here."""
    verbosity, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bar:
            hf_logging.enable_progress_bar()
