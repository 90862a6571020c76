"""Slices of Linears: the leading block of a weight as a narrow rung reads it, without a copy."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class SlicedLinear:
    """The leading `out_features` x `in_features` block of the Linear called `name` below `root`, cut when called.

    It is no module: parameters appear once in `state_dict` and `parameters()`, under the owner's own name, and what
    searches a model for Linears to replace finds the owner alone. The owner is looked up at each call, by its parent
    and name, so that one put in its place (an adapter, a quantised Linear) is what every width runs. Copies and pickles
    of a model point to their own owners.

    `chunks`: number of stacked blocks in the owner's outputs (ModernBERT's query, key and value), each of which keeps
    its leading part.
    """

    def __init__(self, root: nn.Module, name: str, in_features: int, out_features: int, chunks: int = 1) -> None:
        parent, _, self._name = name.rpartition(".")
        self._parent = root.get_submodule(parent)
        owner = self.owner
        assert isinstance(owner, nn.Linear)
        assert 0 < in_features <= owner.in_features, (in_features, owner)
        assert 0 < out_features <= owner.out_features, (out_features, owner)
        assert out_features % chunks == owner.out_features % chunks == 0, (chunks, out_features, owner)
        self.full_in_features = owner.in_features
        self.in_features = in_features
        self.out_features = out_features
        self.chunks = chunks

    @property
    def owner(self) -> Any:
        """The module whose weight is cut, a Linear unless another one was put in its place."""
        return getattr(self._parent, self._name)

    @property
    def weight(self) -> Tensor:
        """The slice [out_features, in_features]; gradients reach the owner's weight."""
        return self._leading(self.owner.weight, 0)[:, : self.in_features]

    @property
    def bias(self) -> Tensor | None:
        """The slice [out_features], or None where the owner has none."""
        return None if self.owner.bias is None else self._leading(self.owner.bias, 0)

    def resized(self, in_features: int, out_features: int) -> SlicedLinear:
        """Return another slice of the same owner."""
        return SlicedLinear(self._parent, self._name, in_features, out_features, self.chunks)

    def _leading(self, values: Tensor, dim: int) -> Tensor:
        """Return the leading entries of each chunk along `dim`, of the owner's outputs -> `out_features`."""
        if self.chunks == 1:
            return values.narrow(dim, 0, self.out_features)
        blocks = values.unflatten(dim, (self.chunks, -1))
        place = dim + 1 if dim >= 0 else dim
        return blocks.narrow(place, 0, self.out_features // self.chunks).flatten(place - 1, place)

    def __call__(self, x: Tensor) -> Tensor:
        """Map [.., in_features] to [.., out_features]. A module in the owner's place runs as a whole, on `x` padded
        with zeros."""
        owner = self.owner
        if is_plain(owner):
            return F.linear(x, self.weight, self.bias)
        return self._leading(owner(F.pad(x, (0, self.full_in_features - self.in_features))), -1)

    def __repr__(self) -> str:
        return f"SlicedLinear(in_features={self.in_features}, out_features={self.out_features}, of={self.owner})"


def is_plain(linear: nn.Module) -> bool:
    """Return True if a call of the module is x W^T + b of its present weight and bias, so that a slice of them is a
    slice of its answer. Adapters, quantised weights and offloaded ones are not."""
    if not isinstance(linear, nn.Linear) or type(linear).forward is not nn.Linear.forward:
        return False
    weight = linear._parameters.get("weight")  # None where a hook or a parametrization makes it at each call
    return weight is not None and "forward" not in vars(linear) and not hasattr(weight, "__tensor_flatten__")


def slices_of(view: nn.Module) -> dict[str, SlicedLinear]:
    """Return the slices that a view runs, by their names below it."""
    found = {}
    for place, module in view.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, SlicedLinear):
                found[f"{place}.{name}".lstrip(".")] = value
    return found


def set_slice(view: nn.Module, name: str, cut: SlicedLinear) -> None:
    """Put a slice in the place of a view's Linear, or of another slice."""
    parent, _, attribute = name.rpartition(".")
    place = view.get_submodule(parent)
    delattr(place, attribute)
    setattr(place, attribute, cut)
