from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch

from sharcs_pl.core.plan import PlanConfig, make_plan
from sharcs_pl.data.sampler import StepBatch, StepDataset, eval_loader
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.training.module import OptimizerSettings, SharcsModule, derive_seed
from sharcs_pl.training.objective import ObjectiveConfig, batch_losses
from tests.conftest import random_table, tiny_model

TABLE = random_table(20)


def module_of(objective: ObjectiveConfig | None = None, **changes: Any) -> SharcsModule:
    module = SharcsModule(tiny_model(), GLUE["sst2"], objective, OptimizerSettings(lr=1e-2, **changes), seed=3)
    module.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    return module.train()


def routed_step(step: int = 0, rank: int = 0, world: int = 1) -> StepBatch:
    rng = torch.arange(20) % 3
    members = torch.stack([rng != 2, rng != 0], 1).numpy()
    plan = make_plan(members, TABLE.lengths, PlanConfig(batch_size=4, num_rungs=2), seed=1, epoch=1)
    return StepDataset(TABLE, plan, rank, world)[step]


def test_the_loss_is_the_mean_over_batches_of_sums_over_counts() -> None:
    module = module_of(ObjectiveConfig(router_weight=0.5, rung_weights=(2.0, 1.0)))
    module.eval()
    step = routed_step()
    expected = torch.zeros(())
    for batch, weight in zip(step.batches, (2.0, 1.0), strict=True):
        losses = batch_losses(module.model, batch, module.objective)
        expected = expected + weight * (losses.task + 0.5 * losses.router) / len(batch.uids)
    torch.testing.assert_close(module.training_step(step, 0)["loss"], expected / 2)


@pytest.mark.parametrize("world", [2, 4])
def test_shares_of_ranks_average_to_the_whole_objective(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of().eval()
    whole = module.training_step(routed_step(), 0)["loss"]
    monkeypatch.setattr(L.Trainer, "world_size", world)
    parts = [module.training_step(routed_step(0, rank, world), 0)["loss"] for rank in range(world)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_weight_by_bucket_scales_each_batch_by_its_share() -> None:
    step = routed_step()
    heavy = replace(step, batches=tuple(replace(b, bucket_weight=3.0) for b in step.batches))
    module = module_of(ObjectiveConfig(weight_by_bucket=True)).eval()
    plain = module_of(ObjectiveConfig()).eval()
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(module.training_step(heavy, 0)["loss"], 3 * plain.training_step(step, 0)["loss"])


def test_dropout_depends_on_the_place_in_the_plan_and_not_on_what_ran_before() -> None:
    module = module_of()
    step = routed_step()
    first = module.training_step(step, 0)["loss"]
    torch.rand(7)
    torch.testing.assert_close(module.training_step(step, 0)["loss"], first, rtol=0, atol=0)
    other = module.training_step(replace(step, step=5), 0)["loss"]
    assert other != first


def test_the_output_names_every_sample_with_its_score_and_rung() -> None:
    module = module_of()
    step = routed_step()
    out = module.training_step(step, 0)
    assert out["uids"].tolist() == [uid for batch in step.batches for uid in batch.uids.tolist()]
    assert out["rungs"].tolist() == [batch.rung for batch in step.batches for _ in batch.uids]
    assert out["scores"].shape == out["uids"].shape
    assert not out["scores"].requires_grad


def test_every_parameter_gets_a_gradient_whatever_rungs_a_step_holds() -> None:
    module = module_of()
    narrow_only = replace(routed_step(), batches=routed_step().batches[:1])
    for step in (narrow_only, replace(narrow_only, batches=())):
        module.zero_grad()
        module.training_step(step, 0)["loss"].backward()
        assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_weights_decay_and_norms_and_biases_do_not() -> None:
    module = module_of(new_lr_scale=10.0)
    optimizer = module.configure_optimizers()
    decays = {id(p): (g["weight_decay"], g["lr"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(decays) == len(list(module.parameters()))
    for name, p in module.named_parameters():
        new = name.startswith(("model.router", "model.tails"))
        assert decays[id(p)] == (0.01 if p.ndim >= 2 else 0.0, 1e-1 if new else 1e-2), name


def test_clipping_works_with_a_fused_optimizer() -> None:
    module = module_of()
    (1e3 * module.training_step(routed_step(), 0)["loss"]).backward()
    module.configure_gradient_clipping(module.configure_optimizers(), 0.5)
    norm = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()
    assert norm == pytest.approx(0.5, rel=1e-3)


def test_each_rungs_reported_metric_comes_from_that_rung() -> None:
    """A model in which one width is always selected must not report another's metric."""
    module = module_of().eval()
    faulty = copy.deepcopy(module)
    original = faulty.model.tail
    faulty.model.tail = lambda state, rung: original(state, 1)
    values = []
    for each in (module, faulty):
        each._collected = {}
        with torch.no_grad():
            for i, batch in enumerate(eval_loader(TABLE, 8)):
                each.validation_step(batch, i)
        each.log = lambda *args, **kwargs: None
        each.on_validation_epoch_end()
        values.append(each.predictions["validation"])
    good, bad = values
    for uid in range(len(TABLE)):
        inputs = TABLE.collate([uid])
        inputs.pop("labels")
        for rung in (0, 1):
            alone = module.model(**inputs, rungs=rung).logits[0]
            torch.testing.assert_close(good.logits[uid, rung], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(good.logits[:, 0], bad.logits[:, 0])
    torch.testing.assert_close(good.logits[:, 1], bad.logits[:, 1])


def test_derived_seeds_differ_in_every_part() -> None:
    seeds = {derive_seed(*parts) for parts in ((1, 2, 3), (2, 1, 3), (1, 2, 4), (1, 3, 3))}
    assert len(seeds) == 4
