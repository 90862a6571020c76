"""Width surgery on stock layers: slices of Linears that stay where they are, and the rungs' tails made of them.

A (layer, rung) pair is a *view*: the stock layer class once more, built from a narrower config, whose Linears read the
leading slice of their owner's weight each time they run, and whose norms are its only own parameters. Weights are thus
shared by every rung, no attribute changes at run time, and one owner may serve many views (ALBERT).

Dimensions: `B` batch, `L` tokens, `D` hidden, `N` heads, `F` feed-forward; with an index `i`, the same at rung i.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharcs_pl.core.widths import REDUCTIONS
from sharcs_pl.models.parts import LayerParts

NORM_INITS = ("pretrained", "scratch")


@dataclass(frozen=True)
class LayerSize:
    """Sizes of one layer at one rung: hidden D_i, heads N_i, feed-forward F_i."""

    hidden: int
    heads: int
    ffn: int


class SlicedLinear(nn.Module):
    """The leading `out_features` x `in_features` block of another Linear, cut when called.

    The owner is kept in a tuple, where `nn.Module` does not look for children: its parameters appear once in
    `state_dict` and `parameters()`, under the owner's own name, while `copy.deepcopy` and pickling still carry the
    reference over to the copy's owner. Since the owner (not its weight) is held, whatever replaces the weight
    (`.to()`, loading onto a meta device) is followed.
    """

    def __init__(self, owner: nn.Linear, in_features: int, out_features: int) -> None:
        super().__init__()
        assert 0 < in_features <= owner.in_features, (in_features, owner)
        assert 0 < out_features <= owner.out_features, (out_features, owner)
        self._owner = (owner,)
        self.in_features = in_features
        self.out_features = out_features

    @property
    def owner(self) -> nn.Linear:
        """The Linear whose weight is cut."""
        return self._owner[0]

    @property
    def weight(self) -> Tensor:
        """The slice [out_features, in_features]; gradients reach the owner's weight."""
        return self.owner.weight[: self.out_features, : self.in_features]

    @property
    def bias(self) -> Tensor | None:
        """The slice [out_features], or None where the owner has none."""
        return None if self.owner.bias is None else self.owner.bias[: self.out_features]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, of={tuple(self.owner.weight.shape)}"


class LeadingSlice(nn.Module):
    """`width.reduction: slice`: the first `size` of the hidden dims, [B, L, D] -> [B, L, D_i]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden[..., : self.size]


class LearnedPooling(nn.Module):
    """`width.reduction: learned`: a weighted sum over each group of D / D_i neighbouring dims.

    [B, L, D] -> [B, L, D_i]; output j is the sum over g of weight[j, g] * hidden[j * D / D_i + g]. The weights start as
    the average.
    """

    def __init__(self, full: int, size: int) -> None:
        super().__init__()
        assert full % size == 0, (full, size)
        self.weight = nn.Parameter(torch.empty(size, full // size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to the plain average of each group."""
        nn.init.constant_(self.weight, 1 / self.weight.shape[1])

    def forward(self, hidden: Tensor) -> Tensor:
        groups = hidden.unflatten(-1, self.weight.shape)
        return (groups * self.weight).sum(-1)


def private_norm(owner: nn.LayerNorm, size: int, norm_init: str) -> nn.LayerNorm:
    """A LayerNorm over `size` dims with parameters of its own, on the owner's device and in its dtype.

    `norm_init` "pretrained" starts it from the leading slice of the owner's weight and bias, "scratch" from 1 and 0.
    """
    assert norm_init in NORM_INITS, norm_init
    norm = nn.LayerNorm(size, eps=owner.eps, device=owner.weight.device, dtype=owner.weight.dtype)
    if norm_init == "pretrained":
        with torch.no_grad():
            norm.weight.copy_(owner.weight[:size])
            norm.bias.copy_(owner.bias[:size])
    return norm


def make_view(layer: nn.Module, narrow_config: Any, norm_init: str) -> nn.Module:
    """A narrower run of `layer`: its class built from `narrow_config`, its Linears cut from `layer`'s when called.

    The new layer's norms are its only parameters (`norm_init` as in `private_norm`). Its dropouts are its own and
    follow the config. `layer` itself is left as it is.
    """
    with torch.device("meta"):  # weights that are replaced below are never allocated, and no random number is drawn
        view = type(layer)(narrow_config)
    for name, module in list(view.named_modules()):
        owner = layer.get_submodule(name)
        if isinstance(module, nn.Linear):
            assert isinstance(owner, nn.Linear)
            view.set_submodule(name, SlicedLinear(owner, module.in_features, module.out_features))
        elif isinstance(module, nn.LayerNorm):
            assert isinstance(owner, nn.LayerNorm)
            view.set_submodule(name, private_norm(owner, module.normalized_shape[0], norm_init))
    share_config(view, layer)
    return view.train(layer.training)


def make_views(
    layers: Iterable[nn.Module], narrow_config: Any, norm_init: str, cut: str, parts: LayerParts
) -> list[nn.Module]:
    """A view of each layer; `cut` "heads_ffn" keeps all hidden dims, whose `parts` say where a layer has which."""
    pairs = [(make_view(layer, narrow_config, norm_init), layer) for layer in layers]
    if cut == "full":
        return [view for view, _ in pairs]
    return [keep_hidden(view, layer, parts, norm_init) for view, layer in pairs]


def keep_hidden(view: nn.Module, layer: nn.Module, parts: LayerParts, norm_init: str) -> nn.Module:
    """The same view with all of the hidden dims: only heads and feed-forward neurons are cut (DynaBERT, Hou et al.
    2020, section 2.1). `parts`: where the layer keeps what; `ValueError` where its Linears are not all among them."""
    writes, reads = (parts.query, parts.key, parts.value, parts.ffn_in), (parts.attention_out, parts.ffn_out)
    for name, module in list(view.named_modules()):
        if isinstance(module, nn.LayerNorm):
            owner = layer.get_submodule(name)
            assert isinstance(owner, nn.LayerNorm)
            view.set_submodule(name, private_norm(owner, owner.normalized_shape[0], norm_init))
        elif isinstance(module, SlicedLinear):
            if name not in (*writes, *reads):
                raise ValueError(f"method.cut=heads_ffn: {type(layer).__name__} cannot be cut so; use method.cut=full")
            inner = module.in_features if name in reads else module.owner.in_features
            outer = module.out_features if name in writes else module.owner.out_features
            view.set_submodule(name, SlicedLinear(module.owner, inner, outer))
    return view


def share_config(view: nn.Module, layer: nn.Module) -> None:
    """Let the view read the stock config again: sizes are fixed by now, and layers look there while they run only for
    the attention implementation, which has to follow the model's when the user changes it."""
    for name, module in view.named_modules():
        if "config" in vars(module):
            module.config = layer.get_submodule(name).config


def make_reduction(reduction: str, full: int, size: int) -> nn.Module:
    """The module that takes the trunk's output [B, L, D] to a rung's [B, L, D_i]; nothing when D_i == D."""
    assert reduction in REDUCTIONS, reduction
    if size == full:
        return nn.Identity()
    return LearnedPooling(full, size) if reduction == "learned" else LeadingSlice(size)


class Tail(nn.Module):
    """What a rung runs after the trunk: reduction, private norm, layers, and the head's first dense layer cut to D_i.

    `views` are registered (their norms are this rung's own parameters). At the top rung there are none and `stock` are
    the encoder's own layers, held unregistered as in `SlicedLinear`.
    """

    def __init__(
        self,
        size: LayerSize,
        reduction: nn.Module,
        norm: nn.Module,
        head_dense: SlicedLinear,
        views: Iterable[nn.Module] = (),
        stock: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.size = size
        self.reduction = reduction
        self.norm = norm
        self.head_dense = head_dense
        self.views = nn.ModuleList(views)
        self._stock = tuple(stock)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers of this rung in depth order."""
        return (*self.views, *self._stock)

    def forward(self, hidden: Tensor, mask: Any, **extras: Tensor) -> Tensor:
        """[B, L, D] from the trunk -> [B, L, D_i] after the last layer; `mask`, `extras` as the stock layers take."""
        hidden = self.norm(self.reduction(hidden))
        return run_layers(self.layers, hidden, mask, extras)


def run_layers(layers: Iterable[nn.Module], hidden: Tensor, mask: Any, extras: dict[str, Tensor]) -> Tensor:
    """`hidden` through `layers`, [B, L, D] -> [B, L, D]. Some stock layers give a tensor, MPNet's a tuple."""
    for layer in layers:
        output = layer(hidden, mask, **extras)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden
