"""Width surgery on stock layers, with slices of their Linears and the rungs' tails made of them.

Each (layer, rung) pair has a *view*, an instance of the stock layer class with a narrower config. Its Linears read the
leading slice of their owner's weight on each run, and its norms are its only own parameters. All rungs thus share
weights, no attribute changes at run time, and one owner may serve many views (ALBERT).

Dimensions: `B` batch, `L` tokens, `D` hidden, `N` heads, `F` feed-forward; an index `i` marks the size at rung i.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharcs_pl.core.widths import REDUCTIONS
from sharcs_pl.models.parts import LayerParts
from sharcs_pl.models.slices import SlicedLinear, set_slice, slices_of

NORM_INITS = ("pretrained", "scratch")


@dataclass(frozen=True)
class LayerSize:
    """The sizes of a layer at a rung: hidden D_i, heads N_i, feed-forward F_i."""

    hidden: int
    heads: int
    ffn: int


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
        """Reset the weights to the average of each group."""
        nn.init.constant_(self.weight, 1 / self.weight.shape[1])

    def forward(self, hidden: Tensor) -> Tensor:
        groups = hidden.unflatten(-1, self.weight.shape)
        return (groups * self.weight).sum(-1)


def private_norm(owner: nn.LayerNorm, size: int, norm_init: str) -> nn.LayerNorm:
    """Return a LayerNorm over `size` dims with its own parameters, on the owner's device and in its dtype.

    `norm_init` "pretrained" starts it from the leading slice of the owner's weight and bias, "scratch" from 1 and 0.
    """
    assert norm_init in NORM_INITS, norm_init
    like = {"device": owner.weight.device, "dtype": owner.weight.dtype}
    norm = nn.LayerNorm(size, eps=owner.eps, bias=owner.bias is not None, **like)
    if norm_init == "pretrained":
        with torch.no_grad():
            for name, parameter in norm.named_parameters():
                parameter.copy_(owner.get_parameter(name)[:size])
    return norm


def make_view(
    layer: nn.Module, narrow_config: Any, norm_init: str, chunks: Mapping[str, int] | None = None
) -> nn.Module:
    """Return a narrow view of `layer`, built from `narrow_config`, whose Linears slice the Linears of `layer`.

    The view's norms are its only parameters (see `private_norm` for `norm_init`). Its dropouts follow the config.
    `layer` is not changed. `chunks`: number of stacked blocks of each Linear with several, by name.
    """
    chunks = chunks or {}
    depth = vars(layer).get("layer_idx")  # set if layers differ by depth; the view needs the kind of its depth
    with torch.device("meta"):  # allocates no weights, which are replaced below, and draws no random numbers
        view = type(layer)(narrow_config) if depth is None else type(layer)(narrow_config, depth)
    for name, module in list(view.named_modules()):
        owner = layer.get_submodule(name)
        if isinstance(module, nn.Linear):
            assert isinstance(owner, nn.Linear)
            cut = SlicedLinear(layer, name, module.in_features, module.out_features, chunks.get(name, 1))
            set_slice(view, name, cut)
        elif isinstance(module, nn.LayerNorm):
            assert isinstance(owner, nn.LayerNorm)
            view.set_submodule(name, private_norm(owner, module.normalized_shape[0], norm_init))
    share_config(view, layer)
    return view.train(layer.training)


def keep_hidden(view: nn.Module, layer: nn.Module, parts: LayerParts, norm_init: str) -> nn.Module:
    """Extend a view to all hidden dims, so that only heads and feed-forward neurons are cut (DynaBERT, Hou et al. 2020,
    section 2.1). `parts`: names of the layer's parts. Raise `ValueError` if they do not cover all its Linears."""
    writes = {parts.query, parts.key, parts.value, parts.ffn_in, *parts.position_projections}
    reads = {parts.attention_out, parts.ffn_out}
    for name, module in list(view.named_modules()):
        if isinstance(module, nn.LayerNorm):
            owner = layer.get_submodule(name)
            assert isinstance(owner, nn.LayerNorm)
            view.set_submodule(name, private_norm(owner, owner.normalized_shape[0], norm_init))
    for name, cut in slices_of(view).items():
        if name not in writes | reads:
            raise ValueError(f"method.cut=heads_ffn: {type(layer).__name__} cannot be cut so; use method.cut=full")
        inner = cut.in_features if name in reads else cut.owner.in_features
        outer = cut.out_features if name in writes else cut.owner.out_features
        set_slice(view, name, cut.resized(inner, outer))
    return view


def share_config(view: nn.Module, layer: nn.Module) -> None:
    """Give the view the stock config. A built layer reads only the attention implementation from it, which must follow
    changes by the user."""
    for name, module in view.named_modules():
        if "config" in vars(module):
            module.config = layer.get_submodule(name).config


def make_reduction(reduction: str, full: int, size: int) -> nn.Module:
    """Return the module that reduces the trunk's output, [B, L, D] -> [B, L, D_i], an identity if D_i == D."""
    assert reduction in REDUCTIONS, reduction
    if size == full:
        return nn.Identity()
    return LearnedPooling(full, size) if reduction == "learned" else LeadingSlice(size)


@dataclass(frozen=True)
class ByKind:
    """An input that differs between kinds of layers. `values`: the inputs by the value of a layer's `attribute`."""

    attribute: str
    values: Mapping[str, Any]

    def of(self, layer: nn.Module) -> Any:
        """Return the value for a layer."""
        return self.values[getattr(layer, self.attribute)]


class Tail(nn.Module):
    """The modules of a rung after the trunk: reduction, private norm, layers, and the head's first dense layer cut to
    D_i.

    `views` are registered (their norms are this rung's own parameters). The top rung has none, and `stock` are the
    encoder's own layers, held unregistered. `outer`: this rung's copies of the norms outside the
    encoder's layers, by name ("final" runs after the last layer). The top rung has `stock_outer` instead.
    """

    def __init__(
        self,
        size: LayerSize,
        reduction: nn.Module,
        norm: nn.Module,
        head_dense: SlicedLinear,
        views: Iterable[nn.Module] = (),
        stock: Sequence[nn.Module] = (),
        outer: Mapping[str, nn.Module] | None = None,
        stock_outer: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.reduction = reduction
        self.norm = norm
        self.head_dense = head_dense
        self.views = nn.ModuleList(views)
        self.outer = nn.ModuleDict(outer or {})
        self._stock = tuple(stock)
        self._stock_outer = dict(stock_outer or {})

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers of this rung in depth order."""
        return (*self.views, *self._stock)

    def parameters_in_use(self) -> list[nn.Parameter]:
        """Return all parameters that a pass reads, with stock layers but without the owners of sliced Linears."""
        owners = (self, *self._stock, *self._stock_outer.values())
        return [parameter for owner in owners for parameter in owner.parameters()]

    def outer_norm(self, name: str) -> nn.Module | None:
        """Return this rung's outer norm of a name, or None if the encoder has none."""
        return self.outer[name] if name in self.outer else self._stock_outer.get(name)

    def enter(self, hidden: Tensor) -> Tensor:
        """Cut and normalise the trunk's output, [.., D] -> [.., D_i]."""
        return self.norm(self.reduction(hidden))

    def run(self, hidden: Tensor, mask: Any, extras: Mapping[str, Any]) -> Tensor:
        """Run the layers and the final norm, if any, on the output of `enter`, [B, L, D_i] -> [B, L, D_i]."""
        hidden = run_layers(self.layers, hidden, mask, extras)
        final = self.outer_norm("final")
        return hidden if final is None else final(hidden)

    def forward(self, hidden: Tensor, mask: Any, **extras: Any) -> Tensor:
        """Run the tail on the trunk's output, [B, L, D] -> [B, L, D_i]. `mask` and `extras` go to the stock layers."""
        return self.run(self.enter(hidden), mask, extras)


def run_layers(layers: Iterable[nn.Module], hidden: Tensor, mask: Any, extras: Mapping[str, Any]) -> Tensor:
    """Run `layers` on `hidden`, [B, L, D] -> [B, L, D]. A `ByKind` as `mask` or extra is resolved per layer. Some stock
    layers return a tensor, MPNet's and DeBERTa's a tuple."""
    for layer in layers:
        given = {name: _for_layer(value, layer) for name, value in extras.items()}
        output = layer(hidden, _for_layer(mask, layer), **given)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


def _for_layer(value: Any, layer: nn.Module) -> Any:
    return value.of(layer) if isinstance(value, ByKind) else value
