"""The routed model as one graph for exporters: trunk, router and every rung over shared weights.

Rows of a rung are gathered, run through its tail and scattered back; there is no `if` on data, and a rung without rows
runs on none. Stock layers cannot be traced with an empty batch, so layers are written out (`products`).

Dimensions: `B` batch, `n` a rung's rows, `L` tokens, `D` hidden, `N` heads, `H` head size, `F` feed-forward, `W` rungs,
`C` labels; an index `i` marks the dimension at rung i.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sharcs_pl.core.cascade import certainty_of, choose_rungs
from sharcs_pl.inference.layout import Layout
from sharcs_pl.inference.products import Linear, WeightStore, WrittenTail, bias_of, linears_of, owner_of, written_layers
from sharcs_pl.models.encoder_sizes import check_written_out, encoder_sizes
from sharcs_pl.models.layers import Tail
from sharcs_pl.models.routed import SharcsForSequenceClassification


class Product(nn.Module):
    """A Linear of the encoder at the largest size in use, its weight [in, out] laid out as the product reads it, since
    exporters would store a transposed copy beside a weight that is also sliced."""

    def __init__(self, linear: nn.Linear, in_features: int, out_features: int) -> None:
        super().__init__()
        weight = linear.weight.detach()[:out_features, :in_features]
        self.weight = nn.Parameter(weight.t().clone(memory_format=torch.contiguous_format), requires_grad=False)
        self.bias = nn.Parameter(bias_of(linear)[:out_features].clone(), requires_grad=False)


class Cut(nn.Module):
    """The leading block of a shared `Product`, [.., in_i] -> [.., out_i]."""

    def __init__(self, product: Product, linear: Linear) -> None:
        super().__init__()
        self.product = product
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        weight = _leading(_leading(self.product.weight, 0, self.in_features), 1, self.out_features)
        return x @ weight + _leading(self.product.bias, 0, self.out_features)


def _leading(tensor: Tensor, dim: int, size: int) -> Tensor:
    return tensor if tensor.shape[dim] == size else tensor.narrow(dim, 0, size)


class Products(WeightStore):
    """The Linears that a graph uses, each stored once however many rungs and layers share it (ALBERT)."""

    def __init__(self, linears: Iterable[Linear]) -> None:
        used: dict[int, list[Linear]] = {}
        for linear in linears:
            used.setdefault(id(owner_of(linear)), []).append(linear)
        self._products = {
            key: Product(owner_of(uses[0]), max(x.in_features for x in uses), max(x.out_features for x in uses))
            for key, uses in used.items()
        }

    def product(self, *linears: Linear) -> Cut:
        """Return the block of the stored weights that a Linear reads."""
        (linear,) = linears
        return Cut(self._products[id(owner_of(linear))], linear)

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor, bias: tuple[Tensor, Tensor | None]) -> Tensor:
        """Attend with a bias of padding [n, 1, 1, L] and position [N, L, L]."""
        padding, position = bias
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + padding
        if position is not None:
            scores = scores + position[: query.shape[1]]
        return scores.softmax(-1) @ value


class AttentionBias(nn.Module):
    """The bias of the attention scores: the lowest number at padding, and MPNet's position bias [N, L, L].

    The position bias depends on the distance of two tokens only. It is kept by distance for every head, [N, 2P - 1] for
    P positions, since its formula holds a logarithm whose rounding, and so the bias, could differ between runtimes.
    """

    by_distance: Tensor | None

    def __init__(self, model: SharcsForSequenceClassification) -> None:
        super().__init__()
        self.positions = encoder_sizes(model.config.encoder).max_tokens
        base, heads = model.family.base_of(model.encoder), model.shape.num_heads
        extras = model.family.layer_extras(base, torch.zeros(1, self.positions, 1, device=model.device), heads)
        assert extras.keys() <= {"position_bias"}, sorted(extras)
        bias = extras["position_bias"][0].detach() if extras else None  # [N, P, P]
        distances = None if bias is None else torch.cat([bias[:, 1:, 0].flip(-1), bias[:, 0]], -1)
        self.register_buffer("by_distance", distances)

    def forward(self, attention_mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Map [B, L] to padding [B, 1, 1, L] and position bias [N, L, L] or None."""
        padding = (1.0 - attention_mask.to(dtype)) * torch.finfo(dtype).min
        if self.by_distance is None:
            return padding[:, None, None], None
        place = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        distance = place[None] - place[:, None] + self.positions - 1
        return padding[:, None, None], self.by_distance[:, distance]


class GraphTail(WrittenTail):
    """The part that one rung runs after the trunk."""

    def forward(self, hidden: Tensor, padding: Tensor, position: Tensor | None) -> Tensor:
        """Map [n, L, D] to logits [n, C]."""
        return self.answer(self.enter(hidden), (padding, position), Layout())


class GraphTrunk(nn.Module):
    """The embeddings and the layers before the split."""

    def __init__(self, model: SharcsForSequenceClassification, products: Products) -> None:
        super().__init__()
        family, stock = model.family, model.encoder
        order = family.depth_order(stock)
        # The base model without what is written out here: the copy replaces those modules and copies the embeddings.
        replaced = {id(module): nn.Identity() for module in (*order, family.head(stock).dense)}
        self.front = copy.deepcopy(family.base_of(stock), replaced)
        self.bias = AttentionBias(model)
        self.layers = written_layers(model, order[: model.split_layer], products)
        self._embed = family.embed

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Map [B, L] long each to hidden [B, L, D] and the bias of later attention, as `AttentionBias` gives it."""
        hidden = self._embed(self.front, input_ids, token_type_ids)
        padding, position = self.bias(attention_mask, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, (padding, position), Layout())
        return hidden, padding, position


class RoutedGraph(nn.Module):
    """A whole routed model, or one sub-network of it, for inference only.

    `rung` is None for every rung behind the rule, or the index of a sub-network, whose weights are then cut to what it
    uses. A model of one rung has no rule. The graph shares embeddings, norms and router with the model and holds
    copies of its Linears, each once. Raise `ValueError` for an architecture whose layers cannot be written out.
    """

    def __init__(self, model: SharcsForSequenceClassification, rung: int | None = None) -> None:
        super().__init__()
        check_exportable(model)
        chosen = range(len(model.ladder)) if rung is None else [rung]
        products = Products([*trunk_linears(model), *(x for i in chosen for x in tail_linears(model, i))])
        self.trunk = GraphTrunk(model, products)
        self.tails = nn.ModuleList(GraphTail(model, i, products) for i in chosen)
        self.router = model.router if rung is None else None
        self.num_labels, self.kind = model.shape.num_labels, model.kind
        self.eval().requires_grad_(False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        thresholds: Tensor | None = None,
        stops: Tensor | None = None,
        average: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Map [B, L] long each, and an operating point, to logits [B, C], rungs [B] long and, with a router, its logits
        [B, W]; a sub-network to the logits alone.

        The point: `thresholds` [W-1], router logits (NaN in it: the likeliest rung); `stops` [W-1], the largest class
        probabilities at which a cascade stops (NaN in it: every sample stops where it begins, at the top without a
        router); `average` [1], above 0 to answer with the mean log-probabilities of the rungs that ran.
        """
        hidden, padding, position = self.trunk(input_ids, attention_mask, token_type_ids)
        if stops is None or average is None:
            return (self.tails[0](hidden, padding, position),)
        scores = () if self.router is None else (self.router(hidden, attention_mask),)
        first = self._first(scores, thresholds, stops, attention_mask)
        return (*self._decided((hidden, padding, position), first, stops, average), *scores)

    def _first(
        self, scores: tuple[Tensor, ...], thresholds: Tensor | None, stops: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Return the rung that each sample begins at, [B] long."""
        if thresholds is None:
            alone = torch.where(stops.isnan().any(), len(self.tails) - 1, 0)
            return alone + torch.zeros_like(attention_mask[:, 0])
        (logits,) = scores
        return torch.where(thresholds.isnan().any(), logits.argmax(-1), choose_rungs(logits, thresholds))

    def _decided(
        self, state: tuple[Tensor, Tensor, Tensor | None], first: Tensor, stops: Tensor, average: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run each sample from its first rung until it stops; return logits [B, C] and rungs [B] long."""
        size = state[0].shape[0]
        logits = total = state[0].new_zeros(size, self.num_labels)
        count, rungs, going = state[0].new_zeros(size, 1), torch.zeros_like(first), first >= 0
        alone = stops.isnan().any()
        for rung, tail in enumerate(self.tails):
            ran = going & (first <= rung)
            found = self._ran(tail, state, ran)
            total = total + torch.where(ran[:, None], self.kind.averaged(found), 0.0)
            count = count + ran[:, None]
            answer = torch.where(average > 0, total / count.clamp(min=1), found)
            sure = certainty_of(self.kind, "probability", answer)
            stop = ran if rung == len(self.tails) - 1 else ran & (alone | (sure >= stops[rung]))
            logits, rungs = torch.where(stop[:, None], answer, logits), torch.where(stop, rung, rungs)
            going = going & ~stop
        return logits, rungs

    def _ran(self, tail: nn.Module, state: tuple[Tensor, Tensor, Tensor | None], ran: Tensor) -> Tensor:
        """Return the logits [B, C] of the samples that run on a rung, bool [B]; 0 for the others."""
        hidden, padding, position = state
        rows = torch.nonzero(ran).squeeze(1)
        torch._check(rows.shape[0] >= 0)  # what an `if` on an empty group would break
        torch._check(rows.shape[0] <= hidden.shape[0])
        answers = tail(hidden.index_select(0, rows), padding.index_select(0, rows), position)
        return hidden.new_zeros(hidden.shape[0], self.num_labels).index_copy(0, rows, answers)


class TrunkGraph(nn.Module):
    """The trunk without the router as a graph of its own, with copies of what it uses."""

    def __init__(self, model: SharcsForSequenceClassification) -> None:
        super().__init__()
        check_exportable(model)
        self.trunk = GraphTrunk(model, Products(trunk_linears(model)))
        self.eval().requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Map [B, L] long each to hidden [B, L, D]."""
        return self.trunk(input_ids, attention_mask, token_type_ids)[0]


class TailGraph(nn.Module):
    """The tail of one rung as a graph of its own, with contiguous copies of what it uses."""

    def __init__(self, model: SharcsForSequenceClassification, rung: int) -> None:
        super().__init__()
        self.bias = AttentionBias(model)
        self.tail = GraphTail(model, rung, Products(tail_linears(model, rung)))
        self.eval().requires_grad_(False)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Map [n, L, D] and [n, L] long to logits [n, C]."""
        return self.tail(hidden, *self.bias(attention_mask, hidden.dtype))


def check_exportable(model: SharcsForSequenceClassification) -> None:
    """Raise `ValueError` for a model whose layers cannot be written out, or that skips tokens."""
    check_written_out(model.family.model_type)
    model.config.check_all_tokens()


def trunk_linears(model: SharcsForSequenceClassification) -> list[Linear]:
    """Return the Linears of the layers before the split."""
    layers = model.family.depth_order(model.encoder)[: model.split_layer]
    return [linear for layer in layers for linear in linears_of(layer, model.family.parts)]


def tail_linears(model: SharcsForSequenceClassification, rung: int) -> list[Linear]:
    """Return the Linears of a rung's layers and head, or its views of them."""
    tail = model.tails[rung]
    assert isinstance(tail, Tail)
    layers = [linear for layer in tail.layers for linear in linears_of(layer, model.family.parts)]
    return [*layers, tail.head_dense]


def tail_weights(model: SharcsForSequenceClassification, rung: int | None = None) -> set[str]:
    """Return the names of the parameters of a `RoutedGraph` that its tails use and its trunk does not. A parameter of
    several users has the names of all of them, since exporters keep one."""
    graph = RoutedGraph(model, rung)
    before = {id(parameter) for parameter in graph.trunk.parameters()}
    named = graph.tails.named_parameters("tails", remove_duplicate=False)
    return {name for name, parameter in named if id(parameter) not in before}


POINT = ("thresholds", "stops", "average")  # the inputs of a graph that make an operating point


def input_names(model: Any, rung: int | None = None) -> Sequence[str]:
    """Return the inputs in order of a routed model's graph, or of any model's at one rung, with `token_type_ids` only
    where the encoder tells several apart."""
    table = getattr(model.family.base_of(model.encoder).embeddings, "token_type_embeddings", None)
    types = table is not None and table.num_embeddings > 1
    several = rung is None and model.ladder.top > 0
    point = ["thresholds"] * (several and model.router is not None) + ["stops", "average"] * several
    return ["input_ids", "attention_mask", *["token_type_ids"] * types, *point]
