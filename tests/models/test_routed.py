from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharcs_pl.core.decision import NEVER
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.router import masked_mean
from tests.conftest import tiny_model
from tests.models.surgery import MIXED, begins, surgery

LABELS = torch.tensor([0, 1, 2, 0, 1])


def rows(batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: value[row : row + 1] for name, value in batch.items()}


# Routing


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2"])
@torch.no_grad()
def test_a_mixed_batch_is_each_sample_alone(stock: Any, batch: Any, model_type: str) -> None:
    model, inputs = surgery(stock(model_type)), batch(model_type)
    out = model(**inputs, rungs=MIXED)
    assert out.rungs.tolist() == MIXED.tolist()
    for row, rung in enumerate(MIXED.tolist()):
        alone = model(**rows(inputs, row), rungs=rung)
        torch.testing.assert_close(out.logits[row], alone.logits[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(out.router_logits[row], alone.router_logits[0], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_router_chooses_unless_told(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    logits = torch.eye(3)[MIXED]
    model.router.forward = lambda hidden, mask: logits  # type: ignore[method-assign, union-attr]
    out = model(**inputs)
    assert out.rungs.tolist() == MIXED.tolist()
    every, router_logits, _ = model.all_rungs(**inputs)
    assert router_logits is logits
    torch.testing.assert_close(out.logits, every[torch.arange(5), MIXED], atol=1e-6, rtol=1e-5)
    assert model(**inputs, rungs=1).rungs.tolist() == [1] * 5


@torch.no_grad()
def test_a_model_stuck_on_one_width_is_noticed(
    model: SharcsForSequenceClassification, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = batch()

    def rungs_agree() -> bool:
        every = model.all_rungs(**inputs).logits
        fixed = [model(**inputs, rungs=rung).logits for rung in range(3)]
        distinct = all(not torch.allclose(fixed[low], fixed[high]) for low, high in ((0, 1), (0, 2), (1, 2)))
        return distinct and all(torch.equal(every[:, rung], fixed[rung]) for rung in range(3))

    assert rungs_agree()
    tail = model.tail
    monkeypatch.setattr(model, "tail", lambda state, rung: tail(state, 2))
    assert not rungs_agree()


@torch.no_grad()
def test_the_router_reads_the_mean_of_real_tokens(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    states = model.encoder(**inputs, output_hidden_states=True).hidden_states
    pooled = masked_mean(states[1], inputs["attention_mask"])
    router = model.router
    assert router is not None
    want = router.output(F.relu(router.dense(pooled)))
    torch.testing.assert_close(model(**inputs).router_logits, want)


def test_rungs_that_do_not_exist_are_refused(model: SharcsForSequenceClassification, batch: Any) -> None:
    for bad in (3, -1, torch.tensor([0, 1, 2, 3, 0])):
        with pytest.raises(ValueError, match="the ladder has 0 to 2"):
            model(**batch(), rungs=bad)
    for shape in (torch.tensor([0, 1]), torch.tensor([0.0] * 5), torch.zeros(5, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match="one per sample"):
            model(**batch(), rungs=shape)


@torch.no_grad()
def test_a_ladder_of_one_is_the_dense_method(stock: Any, batch: Any) -> None:
    plain, inputs = stock("bert"), batch()
    model = surgery(plain, widths=[1.0])
    out = model(**inputs, labels=LABELS, memberships=torch.ones(5, 1))
    assert torch.equal(out.logits, plain(**inputs).logits)
    assert out.router_logits is out.router_loss is model.router is None
    assert out.rungs.tolist() == [0] * 5
    assert torch.equal(out.loss, out.task_loss)
    assert model.cost.rung_macs([7])[0, 0] == model.cost.dense_macs([7])[0]  # type: ignore[arg-type]


# Losses and gradients


def test_losses(model: SharcsForSequenceClassification, batch: Any) -> None:
    members = torch.tensor([[1, 0, 1]] * 5)
    out = model(**batch(), labels=LABELS, memberships=members, rungs=0)
    assert out.task_loss.item() == pytest.approx(F.cross_entropy(out.logits, LABELS).item())
    bce = F.binary_cross_entropy_with_logits(out.router_logits, members.float())
    assert out.router_loss.item() == pytest.approx(bce.item())
    assert out.loss.item() == pytest.approx(out.task_loss.item() + out.router_loss.item())
    assert model(**batch()).loss is None
    assert model(**batch(), labels=LABELS).router_loss is None


def test_regression(stock: Any, batch: Any) -> None:
    model, values = surgery(stock("bert"), num_labels=1), torch.rand(5) * 5
    out = model(**batch(), labels=values, rungs=1)
    assert out.logits.shape == (5, 1)
    assert out.loss.item() == pytest.approx(((out.logits[:, 0] - values) ** 2).mean().item())


def test_gradients_reach_what_a_rung_uses(model: SharcsForSequenceClassification, batch: Any) -> None:
    model.train()
    model(**batch(), labels=LABELS, memberships=torch.ones(5, 3), rungs=0).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    private = {id(p) for p in model.rung_dependent_parameters()}
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert {name for name, _ in model.named_parameters() if name.startswith(("tails.0", "router"))} <= with_gradient
    assert without == {
        name for name, p in model.named_parameters() if id(p) in private and not name.startswith(("tails.0", "router"))
    }
    owner = model.encoder.get_submodule("bert.encoder.layer.2.output.dense")
    assert isinstance(owner, nn.Linear)
    assert owner.weight.grad is not None
    assert owner.weight.grad[:12, :16].abs().min() > 0
    assert owner.weight.grad[12:].abs().max() == 0


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert", "modernbert", "deberta-v2"])
def test_rung_dependent_parameters_are_all_that_some_step_leaves_out(stock: Any, batch: Any, model_type: str) -> None:
    model = surgery(stock(model_type), reduction="learned", top_rung_norm=model_type != "modernbert")
    unused: set[int] = set()
    for rung in range(3):
        model.zero_grad(set_to_none=True)
        model(**batch(model_type), labels=LABELS, rungs=rung).loss.backward()
        unused |= {id(p) for p in model.parameters() if p.grad is None}
    assert unused == {id(p) for p in model.rung_dependent_parameters()}


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert", "mpnet", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("rungs", [{0}, {1}, {2}, {0, 2}])
@pytest.mark.parametrize("routed", [False, True])
def test_idle_parameters_are_those_without_a_gradient(
    stock: Any, batch: Any, model_type: str, rungs: set[int], routed: bool
) -> None:
    model = surgery(stock(model_type), reduction="learned", top_rung_norm=model_type != "modernbert")
    members = torch.ones(5, 3) if routed else None
    for rung in rungs:
        model(**batch(model_type), labels=LABELS, memberships=members, rungs=rung).loss.backward()
    idle = {id(p) for p in model.idle_parameters(rungs, routed)}
    found = {name: p.grad is None for name, p in model.named_parameters()}
    assert found == {name: id(p) in idle for name, p in model.named_parameters()}


def test_albert_rungs_train_the_one_shared_layer(stock: Any, batch: Any) -> None:
    model = surgery(stock("albert"))
    shared = model.encoder.get_submodule("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn")
    assert isinstance(shared, nn.Linear)
    state = model.trunk(**batch("albert"))
    state = type(state)(state.hidden.detach(), state.attention_mask, None)  # the tail alone: the trunk shares the layer
    model.tail(state, 0).sum().backward()
    assert shared.weight.grad is not None
    assert shared.weight.grad[:16, :12].abs().min() > 0
    assert shared.weight.grad[16:].abs().max() == 0
    names = [name for name, p in model.named_parameters() if p.grad is not None and name.startswith("tails")]
    assert len(names) == 2 + 2 * 4  # norm after the cut, two norms in each of two tail layers
    assert all(name.startswith("tails.0.") for name in names)


@pytest.mark.parametrize("model_type", ["bert", "mpnet", "electra", "modernbert", "deberta-v2"])
def test_bf16_autocast_runs_and_trains(stock: Any, batch: Any, model_type: str) -> None:
    model = surgery(stock(model_type)).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch(model_type), labels=LABELS, memberships=torch.ones(5, 3), rungs=MIXED)
    out.loss.backward()
    assert out.loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        exact = model.eval()(**batch(model_type), rungs=1).logits
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(**batch(model_type), rungs=1).logits
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2"])
def test_gradient_checkpointing_gives_the_same_gradients(stock: Any, batch: Any, model_type: str) -> None:
    model = surgery(stock(model_type), dropout=0.0).train()
    model(**batch(), labels=LABELS, rungs=MIXED).loss.backward()
    want = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model(**batch(), labels=LABELS, rungs=MIXED).loss.backward()
    for name, parameter in model.named_parameters():
        if want[name] is not None:
            torch.testing.assert_close(parameter.grad, want[name])


# Norms and reductions


@torch.no_grad()
def test_norms_start_as_asked(stock: Any) -> None:
    plain = stock("bert")
    trunk = plain.get_submodule("bert.encoder.layer.0.output.LayerNorm")
    inner = plain.get_submodule("bert.encoder.layer.1.attention.output.LayerNorm")
    model = SharcsForSequenceClassification.from_encoder(plain, widths=[0.5, 1], split_layer=1, top_rung_norm=True)
    names = dict(model.tails.named_parameters())
    assert torch.equal(names["0.norm.weight"], trunk.weight[:24])
    assert torch.equal(names["0.norm.bias"], trunk.bias[:24])
    assert torch.equal(names["1.norm.weight"], trunk.weight)
    assert torch.equal(names["0.views.0.attention.output.LayerNorm.bias"], inner.bias[:24])
    fresh = SharcsForSequenceClassification.from_encoder(
        plain, widths=[0.5, 1], split_layer=1, norm_init="scratch", top_rung_norm=True
    )
    assert all((p == (1 if name.endswith("weight") else 0)).all() for name, p in fresh.tails.named_parameters())


@torch.no_grad()
def test_top_rung_norm_norms_the_trunk_at_the_top_too(stock: Any, batch: Any) -> None:
    plain, inputs = stock("bert"), batch()
    model = surgery(plain, top_rung_norm=True)
    assert not torch.allclose(model(**inputs, rungs=2).logits, plain(**inputs).logits)
    state, norm = model.trunk(**inputs), model.tails[2].norm
    normed = type(state)(norm(state.hidden), state.attention_mask, None)  # type: ignore[operator]
    bare = surgery(plain)
    torch.testing.assert_close(model(**inputs, rungs=2).logits, bare.tail(normed, 2))


@torch.no_grad()
def test_learned_reduction_pools_then_norms(stock: Any, batch: Any) -> None:
    model = surgery(stock("bert"), reduction="learned")
    tails: Any = model.tails
    tail, state = tails[0], model.trunk(**batch())
    weight, norm = tail.reduction.weight, tail.norm
    assert weight.shape == (12, 4)
    pooled = torch.stack([(state.hidden[..., 4 * j : 4 * j + 4] * weight[j]).sum(-1) for j in range(12)], -1)
    want = F.layer_norm(pooled, (12,), norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(norm(tail.reduction(state.hidden)), want)
    assert model.cost.reduction_macs([5], 0).tolist() == [5 * 48]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"widths": [0.75, 1], "reduction": "learned"}, "width.multipliers.*inverse"),
        ({"widths": [0.3, 1]}, "width.multipliers.*fit this encoder"),
        ({"split_layer": 3}, "width.split_layer.*1 to 2"),
        ({"split_layer": 0}, "width.split_layer"),
        ({"reduction": "mean"}, "width.reduction"),
        ({"norm_init": "zeros"}, "width.norm_init"),
    ],
)
def test_what_does_not_fit_is_refused(stock: Any, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        surgery(stock("bert"), **values)


def test_dropout_of_a_rung_follows_train_and_eval(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    first, second = model.train()(**inputs, rungs=0).logits, model(**inputs, rungs=0).logits
    assert not torch.equal(first, second)
    assert torch.equal(model.eval()(**inputs, rungs=0).logits, model(**inputs, rungs=0).logits)


def test_a_model_from_its_config_is_in_training_mode_throughout(model: SharcsForSequenceClassification) -> None:
    fresh = SharcsForSequenceClassification(model.config)
    assert {module.training for module in fresh.modules()} == {True}
    assert {module.training for module in model.modules()} == {False}


@torch.no_grad()
def test_double_precision_reaches_the_views(model: SharcsForSequenceClassification, batch: Any) -> None:
    assert model.double()(**batch(), rungs=MIXED).logits.dtype == torch.float64


@torch.no_grad()
def test_compiled_rungs_agree(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    state = model.trunk(**inputs)
    compiled = torch.compile(model.tail, backend="eager")
    for rung in range(3):
        torch.testing.assert_close(compiled(state, rung), model.tail(state, rung))


def test_a_threshold_takes_the_narrowest_member_and_the_top_where_there_is_none() -> None:
    model = tiny_model(widths=(0.25, 0.5, 1.0))
    model.config.router_threshold = 0.6
    logits = torch.tensor([[0.5, 3.0, 9.0], [0.3, 3.0, 0.0], [0.3, 0.3, -9.0], [-1.0, 0.0, 2.0]])
    assert begins(model, logits).tolist() == [0, 1, 2, 2]  # sigmoid(0.5) is 0.62, sigmoid(0.3) is 0.57
    model.config.router_threshold = None
    assert begins(model, logits).tolist() == [2, 1, 0, 2]


def test_a_text_easy_enough_for_a_narrow_rung_is_easy_enough_for_a_wider_one() -> None:
    model = tiny_model(widths=(0.25, 0.5, 1.0))
    logits = torch.tensor([[2.0, -5.0, 0.0], [0.5, -5.0, 0.0], [-5.0, 0.5, 0.0], [-5.0, -5.0, 9.0], [1.0, 0.0, 0.0]])
    assert begins(model, logits, (1.0, 0.5)).tolist() == [0, 1, 1, 2, 0]
    assert begins(model, logits, (NEVER, NEVER)).tolist() == [2] * 5
    assert begins(model, logits, (-NEVER, NEVER)).tolist() == [0] * 5


def test_operating_points_are_kept_with_the_model_and_unknown_ones_are_listed(tmp_path: Path) -> None:
    model = tiny_model(widths=(0.25, 0.5, 1.0))
    model.config.operating_points = {"fast": {"thresholds": [-1.0, 0.5]}}
    logits = torch.tensor([[-0.5, -3.0, 3.0], [-2.0, 1.0, 3.0], [-2.0, 0.0, 3.0]])
    assert begins(model, logits).tolist() == [2, 2, 2]
    model.set_operating_point("fast")
    model.save_pretrained(tmp_path)
    again = SharcsForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.operating_point == "fast"
    assert begins(again, logits).tolist() == [0, 1, 2]
    again.set_operating_point("trained")
    assert begins(again, logits).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match=r"point=slow: .* it has trained, fast"):
        again.set_operating_point("slow")
    assert again.config.operating_point is None


@torch.no_grad()
def test_a_width_compiles_as_one_graph(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs = batch()
    compiled: Any = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs, rungs=0).logits, model(**inputs, rungs=0).logits)
