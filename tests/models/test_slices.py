"""Slices of a Linear, and what they do when another module takes its place."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharcs_pl.models.slices import SlicedLinear


def holder(owner: nn.Linear) -> nn.ModuleList:
    return nn.ModuleList([owner])


class Pair(nn.Module):
    """A Linear and a slice of it."""

    def __init__(self, out: int = 5) -> None:
        super().__init__()
        self.owner: Any = nn.Linear(6, out)
        self.narrow = SlicedLinear(self, "owner", 3, 2)


def test_a_slice_reads_its_owner_when_called() -> None:
    owner = nn.Linear(6, 5)
    narrow, x = SlicedLinear(holder(owner), "0", 3, 2), torch.randn(4, 3)
    torch.testing.assert_close(narrow(x), x @ owner.weight[:2, :3].T + owner.bias[:2])
    with torch.no_grad():
        owner.weight.zero_()
    torch.testing.assert_close(narrow(x), owner.bias[:2].expand(4, 2))


def test_a_slice_owns_nothing_and_trains_its_owner() -> None:
    owner = nn.Linear(6, 5)
    narrow = SlicedLinear(holder(owner), "0", 3, 2)
    assert not isinstance(narrow, nn.Module)
    narrow(torch.randn(4, 3)).sum().backward()
    assert owner.weight.grad is not None
    assert owner.weight.grad[:2, :3].abs().min() > 0
    assert owner.weight.grad[2:].abs().max() == 0
    assert owner.weight.grad[:, 3:].abs().max() == 0


def test_a_slice_without_bias() -> None:
    owner = nn.Linear(6, 5, bias=False)
    x = torch.randn(4, 3)
    torch.testing.assert_close(SlicedLinear(holder(owner), "0", 3, 5)(x), x @ owner.weight[:, :3].T)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])  # noqa: S301
def test_a_copied_slice_follows_the_copied_owner(duplicate: Any) -> None:
    pair = Pair()
    twin, x = duplicate(pair), torch.randn(1, 3)
    before = pair.narrow(x)
    assert twin.narrow.owner is twin.owner
    with torch.no_grad():
        twin.owner.weight.add_(1)
    assert torch.equal(pair.narrow(x), before)
    assert not torch.allclose(twin.narrow(x), before)


def test_a_slice_follows_a_change_of_dtype() -> None:
    assert Pair().double().narrow(torch.randn(1, 3, dtype=torch.float64)).dtype == torch.float64


class Doubled(nn.Module):
    """An adapter around a Linear, as LoRA puts one in its place."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.scale = base, nn.Parameter(torch.tensor(2.0))

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight  # as peft's layers show it, without the adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) * self.scale


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_module_in_the_place_of_the_owner_is_what_the_slice_runs(chunks: int) -> None:
    pair, x = Pair(out=6), torch.randn(4, 3)
    pair.narrow = pair.narrow.resized(3, 4) if chunks == 1 else SlicedLinear(pair, "owner", 3, 4, chunks)
    before, plain = pair.narrow(x), pair.owner
    pair.owner = Doubled(plain)
    torch.testing.assert_close(pair.narrow(x), 2 * before)
    pair.narrow(x).sum().backward()
    assert pair.owner.scale.grad is not None
    pair.owner = nn.Linear(6, 6)
    assert not torch.allclose(pair.narrow(x), before)
    pair.owner = plain
    assert torch.equal(pair.narrow(x), before)


def changed(pair: Pair, way: str) -> Any:
    if way == "dynamic int8":
        return torch.ao.quantization.quantize_dynamic(pair, {nn.Linear}, dtype=torch.qint8)
    if way == "forward":  # as accelerate's hooks do
        stock = pair.owner.forward
        pair.owner.forward = lambda x: 3 * stock(x)
        return pair
    (torch.nn.utils.weight_norm if way == "hook" else torch.nn.utils.parametrizations.weight_norm)(pair.owner)
    size = "weight_g" if way == "hook" else "parametrizations.weight.original0"
    with torch.no_grad():
        pair.owner.get_parameter(size).mul_(3)
    return pair


@pytest.mark.parametrize("way", ["hook", "parametrization", "forward", "dynamic int8"])
def test_a_slice_follows_weights_that_are_made_when_called(way: str) -> None:
    pair, x = Pair(out=6), torch.randn(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of these ways are deprecated, and in use
        pair = changed(pair, way)
    expected = pair.owner(F.pad(x, (0, 3)))[:, :2]
    torch.testing.assert_close(pair.narrow(x), expected)
