"""Functions for arrays of NumPy and of torch, so that what both need is written once. Loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", np.ndarray, Tensor)
else:
    Array = TypeVar("Array")


def library_of(array: Any) -> Any:
    """Return the library of an array, `numpy` or `torch`. Many of their functions have one name and signature."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def as_float32(array: Array) -> Array:
    """Return the array in single precision, itself where it is."""
    return array.astype(np.float32, copy=False) if isinstance(array, np.ndarray) else array.float()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a tensor of half precision to float32 for losses. float64 stays."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def softmax(scores: Array) -> Array:
    """Return the probabilities of scores over their last dimension; NaN for scores that are not finite."""
    if not isinstance(scores, np.ndarray):
        return scores.softmax(-1)
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)


def log_softmax(scores: Array) -> Array:
    """Return the log-probabilities of scores over their last dimension; NaN for scores that are not finite."""
    if not isinstance(scores, np.ndarray):
        return scores.log_softmax(-1)
    with np.errstate(invalid="ignore"):
        scores = scores - scores.max(-1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def sigmoid(scores: Array) -> Array:
    """Return the logistic function of scores, without overflow."""
    if not isinstance(scores, np.ndarray):
        return scores.sigmoid()
    with np.errstate(invalid="ignore"):  # NaN gives NaN
        return np.exp(-np.logaddexp(0, -scores))
