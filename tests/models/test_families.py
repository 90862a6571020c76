"""Every row of the table: parity with the stock model at the top, a dense narrow model below, and the MACs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sharcs_pl.models.families import FAMILIES, get_family
from sharcs_pl.models.layers import LayerSize
from sharcs_pl.models.pretrained import load_stock
from sharcs_pl.models.routed import SharcsForSequenceClassification

EVERY = sorted(FAMILIES)
PRE_NORM = ["modernbert"]
WIDTHS = [0.25, 0.5, 1]
EAGER_ONLY = ("mpnet", "deberta-v2")
ROUNDING = {"modernbert": 1e-6}  # it turns queries and keys in float32 whatever the dtype of the model


def routed(stock: Any, **values: Any) -> SharcsForSequenceClassification:
    return SharcsForSequenceClassification.from_encoder(stock, **{"widths": WIDTHS, "split_layer": 1, **values})


def perturb(module: nn.Module) -> None:
    """Random private norms, so that a norm in the wrong place shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_the_top_rung_is_the_stock_model_bit_for_bit(stock: Any, batch: Any, model_type: str, attention: str) -> None:
    if model_type in EAGER_ONLY and attention == "sdpa":
        pytest.skip("the stock model has eager attention only")
    plain = stock(model_type, attention=attention)
    model = routed(plain)
    for inputs in (
        batch(model_type),
        batch(model_type, extra=3),
        batch(model_type, left=True),
        batch(model_type, (6,)),
    ):
        want = plain(**inputs).logits
        assert torch.equal(model(**inputs, rungs=2).logits, want)
        assert torch.equal(model.all_rungs(**inputs)[0][:, 2], want)
        assert torch.equal(model(inputs["input_ids"], rungs=2).logits, plain(inputs["input_ids"]).logits)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("modernbert", {"classifier_pooling": "mean"}),
    ("modernbert", dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)),
    ("deberta-v2", {"share_att_key": False}),
    ("deberta-v2", {"share_att_key": False, "pos_att_type": ["p2c"], "position_buckets": -1}),
    ("deberta-v2", {"norm_rel_ebd": "none", "pos_att_type": "c2p", "max_relative_positions": 6}),
    ("deberta-v2", {"relative_attention": False, "position_biased_input": True, "type_vocab_size": 2}),
    ("deberta-v2", {"embedding_size": 20}),
]


@pytest.mark.parametrize(("model_type", "values"), VARIANTS)
@torch.no_grad()
def test_every_variant_of_a_config(stock: Any, batch: Any, model_type: str, values: dict[str, Any]) -> None:
    """Parity at the top, a narrow rung that padding does not change, and the multiply-adds of one text."""
    plain = stock(model_type, **values)
    model = routed(plain)
    for left in (False, True):
        inputs = batch(model_type, left=left)
        assert torch.equal(model(**inputs, rungs=2).logits, plain(**inputs).logits)
    narrow = [model(**batch(model_type, extra=extra), rungs=0).logits for extra in (0, 3)]
    torch.testing.assert_close(narrow[0], narrow[1], atol=1e-5, rtol=1e-5)
    ids = batch(model_type, (13,))["input_ids"]
    for rung, macs in enumerate(model.cost.rung_macs(np.array([13]))[0]):
        assert torch_macs(Outputs(model, rungs=rung), ids) == macs


@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_the_top_rung_drops_what_the_stock_model_drops(stock: Any, batch: Any, model_type: str) -> None:
    plain, inputs = stock(model_type), batch(model_type)
    model = routed(plain, dropout=0.3).train()
    exact = load_stock(plain, dropout=0.3).train()
    torch.manual_seed(7)
    want = exact(**inputs).logits
    torch.manual_seed(7)
    assert torch.equal(model(**inputs, rungs=2).logits, want)


@pytest.mark.parametrize("model_type", ["bert", "electra", "albert"])
@torch.no_grad()
def test_token_types_reach_the_embeddings(stock: Any, batch: Any, model_type: str) -> None:
    plain, inputs = stock(model_type), batch(model_type)
    types = (torch.arange(inputs["input_ids"].shape[1]) > 3).long().expand_as(inputs["input_ids"])
    model = routed(plain)
    got = model(**inputs, token_type_ids=types, rungs=2).logits
    assert torch.equal(got, plain(**inputs, token_type_ids=types).logits)
    assert not torch.allclose(got, model(**inputs, rungs=2).logits)


@torch.no_grad()
def test_albert_with_groups_of_several_layers(stock: Any, batch: Any) -> None:
    plain = stock("albert", num_hidden_groups=2, inner_group_num=2, num_hidden_layers=4)
    model = routed(plain, split_layer=3)
    assert model.shape.num_layers == 8
    assert torch.equal(model(**batch("albert"), rungs=2).logits, plain(**batch("albert")).logits)


# A narrow rung against a dense narrow model: the stock class built narrow, holding copies of slices.

Heads = dict[str, tuple[str, Callable[[Tensor], Tensor], str]]
HEADS: Heads = {
    "bert": ("bert.pooler.dense", torch.tanh, "classifier"),
    "albert": ("albert.pooler", torch.tanh, "classifier"),
    "distilbert": ("pre_classifier", F.relu, "classifier"),
    "electra": ("classifier.dense", F.gelu, "classifier.out_proj"),
    "roberta": ("classifier.dense", torch.tanh, "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", torch.tanh, "classifier.out_proj"),
    "mpnet": ("classifier.dense", torch.tanh, "classifier.out_proj"),
    "modernbert": ("head.dense", F.gelu, "classifier"),
    "deberta-v2": ("pooler.dense", F.gelu, "classifier"),
}
HEAD_NORMS = {"modernbert": "head.norm"}
BLOCKS = {"attn.Wqkv": 3, "mlp.Wi": 2}
DEPTH = {"distilbert": "n_layers"}


def narrow_stock(plain: Any, size: LayerSize, depth: int) -> Any:
    """A stock model of `depth` layers of a narrow size; ALBERT with a group per layer, so that norms can differ."""
    family = get_family(plain.config.model_type)
    config = family.resized(plain.config, size)
    setattr(config, DEPTH.get(config.model_type, "num_hidden_layers"), depth)
    if config.model_type == "albert":
        config.num_hidden_groups = depth
    if config.model_type == "modernbert":
        config.layer_types = config.layer_types[-depth:]
    small = family.stock_class(config).double().eval()
    if config.model_type == "modernbert":  # the first layer has no norm before attention, and the cut comes later
        small.model.layers[0].attn_norm = nn.LayerNorm(size.hidden, bias=False, dtype=torch.float64)
    return small


def copy_slices(source: nn.Module, norms: nn.Module, target: nn.Module) -> None:
    """Leading slices of `source`'s Linears, of each block where there are several, and all of `norms`' norms."""
    for name, module in target.named_modules():
        if isinstance(module, nn.Linear):
            owner, blocks = source.get_submodule(name), BLOCKS.get(name, 1)
            assert isinstance(owner, nn.Linear)
            rows = module.out_features // blocks
            module.weight.copy_(torch.cat([w[:rows, : module.in_features] for w in owner.weight.chunk(blocks)]))
            if owner.bias is not None:
                module.bias.copy_(torch.cat([b[:rows] for b in owner.bias.chunk(blocks)]))
        elif isinstance(module, nn.LayerNorm):
            module.load_state_dict(norms.get_submodule(name).state_dict())


def copy_beside_layers(plain: Any, tail: Any, small: Any) -> None:
    """What a rung has of its own outside its layers."""
    width = tail.size.hidden
    if plain.config.model_type == "mpnet":
        bias = plain.mpnet.encoder.relative_attention_bias.weight[:, : tail.size.heads]
        small.mpnet.encoder.relative_attention_bias.weight.copy_(bias)
    if plain.config.model_type == "modernbert":
        small.model.final_norm.load_state_dict(tail.outer["final"].state_dict())
    if plain.config.model_type == "deberta-v2":
        small.deberta.encoder.rel_embeddings.weight.copy_(plain.deberta.encoder.rel_embeddings.weight[:, :width])
        small.deberta.encoder.LayerNorm.load_state_dict(tail.outer["positions"].state_dict())


def run_encoder(base: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """The narrow model's own loop over its layers."""
    blocked = (1 - mask.double())[:, None, None, :] * torch.finfo(torch.float64).min
    if base.config.model_type == "distilbert":
        return base.transformer(hidden, blocked).last_hidden_state
    if base.config.model_type == "modernbert":
        base.embeddings.norm = nn.Identity()
        return base(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
    if base.config.model_type == "albert":
        base.encoder.embedding_hidden_mapping_in = nn.Identity()
    given = mask if base.config.model_type == "deberta-v2" else blocked
    return base.encoder(hidden, attention_mask=given, return_dict=True).last_hidden_state


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_a_narrow_rung_is_a_dense_narrow_model(stock: Any, batch: Any, model_type: str, left: bool) -> None:
    # ModernBERT's eager attention turns the lowest float64 into minus infinity, and padding into NaN.
    plain = stock(model_type, attention=None if model_type == "modernbert" else "eager").double()
    model, family, inputs = routed(plain), get_family(model_type), batch(model_type, left=left)
    perturb(model.tails)
    tails: Any = model.tails
    tail, layers = tails[1], family.depth_order(plain)
    small = narrow_stock(plain, LayerSize(24, 2, 32), depth=2)
    for depth, layer in enumerate(family.depth_order(small)):
        copy_slices(layers[1 + depth], tail.views[depth], layer)
    copy_beside_layers(plain, tail, small)
    hidden = plain(**inputs, output_hidden_states=True).hidden_states[1][..., :24]
    if model_type not in PRE_NORM:
        hidden = F.layer_norm(hidden, (24,), tail.norm.weight, tail.norm.bias, tail.norm.eps)
    hidden = run_encoder(family.base_of(small), hidden, inputs["attention_mask"])
    dense, activation, output = HEADS[model_type]
    dense, output = plain.get_submodule(dense), plain.get_submodule(output)
    pooled = hidden[:, 0] @ dense.weight[:, :24].T + (0 if dense.bias is None else dense.bias)
    norm = plain.get_submodule(HEAD_NORMS[model_type]) if model_type in HEAD_NORMS else nn.Identity()
    atol = ROUNDING.get(model_type, 1e-10)
    torch.testing.assert_close(model(**inputs, rungs=1).logits, output(norm(activation(pooled))), atol=atol, rtol=1e-8)


@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_padding_changes_nothing(stock: Any, batch: Any, model_type: str) -> None:
    model = routed(stock(model_type)).double()
    logits, router, _ = model.all_rungs(**batch(model_type))
    padded, padded_router, _ = model.all_rungs(**batch(model_type, extra=5))
    atol = ROUNDING.get(model_type, 1e-10)
    torch.testing.assert_close(padded, logits, atol=atol, rtol=1e-8)
    torch.testing.assert_close(padded_router, router, atol=atol, rtol=1e-8)


@pytest.mark.parametrize("model_type", EVERY)
@torch.no_grad()
def test_rungs_differ_and_all_rungs_agrees_with_each(stock: Any, batch: Any, model_type: str) -> None:
    model, inputs = routed(stock(model_type)), batch(model_type)
    logits = model.all_rungs(**inputs).logits
    for rung in range(3):
        assert torch.equal(logits[:, rung], model(**inputs, rungs=rung).logits)
    for low, high in ((0, 1), (1, 2), (0, 2)):
        assert (logits[:, low] - logits[:, high]).abs().amin(0).max() > 1e-3


@pytest.mark.parametrize("model_type", [name for name in EVERY if name not in PRE_NORM])
@torch.no_grad()
def test_the_norm_after_the_cut_starts_from_the_norm_that_ran_last(stock: Any, batch: Any, model_type: str) -> None:
    plain, ran = stock(model_type), []
    layer = get_family(model_type).depth_order(plain)[0]
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda norm, args, output: ran.append(norm))
    plain(**batch(model_type))
    tails: Any = routed(plain).tails
    assert torch.equal(tails[0].norm.weight, ran[-1].weight[:12])
    assert torch.equal(tails[0].norm.bias, ran[-1].bias[:12])


@pytest.mark.parametrize("model_type", PRE_NORM)
@torch.no_grad()
def test_where_norms_run_first_the_cut_is_followed_by_the_next_layers_own(
    stock: Any, batch: Any, model_type: str
) -> None:
    plain, ran = stock(model_type), []
    first = get_family(model_type).depth_order(plain)[1]
    for module in plain.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda norm, args, output: ran.append((norm, args[0])))
    start = []
    first.register_forward_pre_hook(lambda layer, args: start.append((len(ran), args[0])))
    plain(**batch(model_type))
    before, stream = start[0]
    norm, read = ran[before]
    assert torch.equal(read, stream)  # the residual stream itself
    model = routed(plain)
    tails: Any = model.tails
    state = model.trunk(**batch(model_type))
    assert torch.equal(tails[0].enter(state.hidden), stream[..., :12])
    own = next(module for module in tails[0].views[0].modules() if isinstance(module, nn.LayerNorm))
    assert torch.equal(own.weight, norm.weight[:12])
    assert torch.equal(tails[0].outer["final"].weight, ran[-2][0].weight[:12])  # then comes the head's
    with pytest.raises(ValueError, match=r"width\.top_rung_norm=true does not fit"):
        routed(plain, top_rung_norm=True)


def test_relative_positions_are_normed_by_every_rung_itself(stock: Any) -> None:
    plain = stock("deberta-v2")
    owner = plain.deberta.encoder.LayerNorm
    tails: Any = routed(plain).tails
    for tail, width in zip(tails, (12, 24), strict=False):
        assert torch.equal(tail.outer["positions"].weight, owner.weight[:width])
    assert not list(tails[2].parameters())


@pytest.mark.parametrize("model_type", EVERY)
def test_a_row_names_every_dropout(stock: Any, model_type: str) -> None:
    model = routed(stock(model_type), dropout=0.37)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) > 8
    assert {module.p for module in dropouts} == {0.37}


def test_an_unknown_architecture_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"encoder.pretrained.*'gpt2'.*albert, bert, deberta-v2, distilbert, ele"):
        get_family("gpt2")


# MACs. Counted operators: products of matrices only (aten linear, addmm, mm, bmm, matmul and scaled-dot-product
# attention); biases, norms, softmax, activations and look-ups are left out of all three counts.

MATRIX_PRODUCTS = {"linear", "addmm", "mm", "bmm", "matmul", "einsum"}


class Outputs(nn.Module):
    """A model's tensors as a tuple, the router's among them: the tracer drops what does not reach the output."""

    def __init__(self, model: nn.Module, **values: Any) -> None:
        super().__init__()
        self.model, self.values = model, values

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        output = self.model(input_ids, **self.values)
        return tuple(output[name] for name in ("logits", "router_logits") if name in output)


def fvcore_macs(module: nn.Module, ids: Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis  # its import warns: it belongs under the filters of the test

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    count = FlopCountAnalysis(module, ids).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(value for name, value in count.by_operator().items() if name in MATRIX_PRODUCTS)


def torch_macs(module: nn.Module, ids: Tensor) -> int:
    def attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return sdpa_flop_count(query, key, value)

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    # With gradients: without, its module tracker trips over a slice of a parameter that a module is given.
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        module(ids)
    return counter.get_total_flops() // 2


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("model_type", EVERY)
def test_the_cost_model_counts_what_two_counters_count(stock: Any, batch: Any, model_type: str) -> None:
    lengths = (13,) if model_type == "deberta-v2" else (13, 13)  # a batch projects relative positions once
    ids = batch(model_type, lengths)["input_ids"]
    eager, fused = stock(model_type, attention="eager"), stock(model_type)
    models = routed(eager), routed(fused)
    cost = models[0].cost
    dense, rungs = cost.dense_macs(np.array(lengths)).sum(), cost.rung_macs(np.array(lengths)).sum(0)
    assert fvcore_macs(Outputs(eager), ids) == dense
    assert torch_macs(Outputs(fused), ids) == dense
    for rung, macs in enumerate(rungs):
        assert fvcore_macs(Outputs(models[0], rungs=rung), ids) == macs
        assert torch_macs(Outputs(models[1], rungs=rung), ids) == macs


def test_the_stock_config_is_left_alone(stock: Any) -> None:
    plain = stock("bert")
    before = copy.deepcopy(plain.config.to_dict())
    routed(plain, dropout=0.5, num_labels=7)
    assert plain.config.to_dict() == before
