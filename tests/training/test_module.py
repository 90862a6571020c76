from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.tuner.tuning import Tuner

from sharcs_pl.core.plan import PlanConfig, make_plan
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.data.sampler import PlanLoader, StepBatch, StepDataset, eval_loader
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.training.callbacks import HardnessHistory
from sharcs_pl.training.module import OptimizerSettings, SharcsModule, derive_seed
from sharcs_pl.training.objective import ObjectiveConfig, batch_losses
from tests.conftest import random_table, tiny_model
from tests.training.made import TABLE, Waits, module_of, routed_plan, routed_step


def full_width_step() -> StepBatch:
    plan = make_plan(None, TABLE.lengths, PlanConfig(batch_size=4, num_rungs=2), seed=1, epoch=0)
    return StepDataset(TABLE, plan)[0]


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


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_among_processes_every_parameter_gets_a_gradient_whatever_this_one_holds(
    batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    module, step = module_of(), routed_step()
    module.training_step(replace(step, batches=step.batches[:batches]), 0)["loss"].backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("world", [1, 2])
def test_what_a_step_does_not_train_takes_no_part_in_its_update(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Adam counts the step, and the router's first updates are several times the learning rate; and decay moves
    what nothing trains."""
    monkeypatch.setattr(L.Trainer, "world_size", world)
    module = module_of(weight_decay=0.1)
    optimizer = module.configure_optimizers()
    for step in [full_width_step()] * 3 + [routed_step()]:
        before = copy.deepcopy(module.model)
        optimizer.zero_grad()
        module.training_step(step, 0)["loss"].backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
        same = {name: torch.equal(p, module.model.get_parameter(name)) for name, p in before.named_parameters()}
        rests = {name: name.startswith(("router", "tails.0")) and not step.routed for name in same}
        assert same == rests
    moved = (module.model.router.dense.weight - before.router.dense.weight).abs().max()
    assert moved <= 1e-2 * (1 + 0.1)
    counts = {int(optimizer.state[p]["step"]) for p in module.model.router.parameters()}
    assert counts == {1}


def test_accumulated_steps_train_what_any_of_them_trains() -> None:
    module = module_of()
    for step in (full_width_step(), routed_step(), full_width_step()):
        module.training_step(step, 0)["loss"].backward()
    module.on_before_optimizer_step(module.configure_optimizers())
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
    module.zero_grad()
    module.training_step(full_width_step(), 0)["loss"].backward()
    module.on_before_optimizer_step(module.configure_optimizers())
    assert all(p.grad is None for p in module.model.router.parameters())


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


class ScaledOnly(MixedPrecision):
    """Lightning's plugin with its scaler, but not its rounding: on a CPU that would be too much to compare."""

    def autocast_context_manager(self) -> Any:
        return nullcontext()


@pytest.mark.parametrize("clip", [0.05, None])
def test_half_precision_clips_and_updates_by_unscaled_gradients(clip: float | None) -> None:
    """The norm that is clipped is the one without a scale of 2**16."""
    silence_libraries()
    seen: dict[str, Any] = {}

    def update(precision: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        module = module_of()
        trainer = L.Trainer(
            accelerator="cpu",
            gradient_clip_val=clip,
            max_steps=1,
            plugins=[] if precision is None else [precision],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        norm = torch.nn.utils.clip_grad_norm_

        def watched(parameters: Any, limit: float) -> torch.Tensor:
            seen[str(precision)] = norm(parameters, limit)
            return seen[str(precision)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
            trainer.fit(module, PlanLoader(TABLE, routed_plan()), eval_loader(TABLE, 20))
        return {name: p.detach().clone() for name, p in module.named_parameters()}

    half = ScaledOnly("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**16))
    expected, found = update(None), update(half)
    for name, p in expected.items():
        torch.testing.assert_close(found[name], p, rtol=1e-4, atol=1e-6)
    if clip is not None:
        torch.testing.assert_close(*seen.values(), rtol=1e-3, atol=0)


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


@pytest.mark.parametrize(
    "objective", [ObjectiveConfig(distill_weight=1.0), ObjectiveConfig("entropy", warmup_loss=True)]
)
def test_a_step_and_a_validation_step_wait_for_no_device(objective: ObjectiveConfig) -> None:
    module = module_of(objective).to("meta")
    with Waits() as waits:
        for step in (routed_step(), full_width_step()):
            found = module.training_step(step.to("meta", non_blocking=True), 0)
            found["loss"].backward()
            assert found["scores"].device.type == "meta"
        for batch in eval_loader(TABLE, 8):
            module.validation_step(batch.to("meta", non_blocking=True), 0)
    assert not waits.copies


@pytest.mark.parametrize(("device", "free"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_a_batch_goes_to_a_gpu_while_that_works(device: str, free: bool) -> None:
    batch = SimpleNamespace(to=lambda device, non_blocking: (device, non_blocking))
    place = torch.device(device)
    assert module_of().transfer_batch_to_device(batch, place, 0) == (place, free)


def test_derived_seeds_differ_in_every_part() -> None:
    seeds = {derive_seed(*parts) for parts in ((1, 2, 3), (2, 1, 3), (1, 2, 4), (1, 3, 3))}
    assert len(seeds) == 4


def plain(folder: Path, **options: Any) -> tuple[L.Trainer, SharcsModule, SharcsDataModule]:
    """A trainer of Lightning that no command has built, with the module and the datamodule of a user."""
    silence_libraries()
    plan = PlanConfig(batch_size=4, num_rungs=2)
    data = SharcsDataModule(random_table(24), {"dev": random_table(6)}, plan, bounds=[(0.5, 1.0), (0.0, 0.5)])
    module = SharcsModule(
        tiny_model(), replace(GLUE["sst2"], validation=("dev",)), optimizer=OptimizerSettings(lr=1e-2)
    )
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    quiet |= {"enable_progress_bar": False, "accelerator": "cpu", "default_root_dir": folder, "max_epochs": 2}
    quiet |= {"reload_dataloaders_every_n_epochs": 1, **options}
    return L.Trainer(**quiet), module, data


def test_a_plain_loop_trains_the_router(tmp_path: Path) -> None:
    trainer, module, data = plain(tmp_path)
    before = module.model.router.output.weight.clone()
    trainer.fit(module, data)
    assert data.history.num_epochs == 2
    assert not torch.equal(module.model.router.output.weight, before)
    assert module.model.config.problem_type == "single_label_classification"


def test_a_history_that_is_there_is_kept(tmp_path: Path) -> None:
    trainer, module, data = plain(tmp_path, callbacks=[HardnessHistory(tmp_path)], max_epochs=1)
    trainer.fit(module, data)
    assert (tmp_path / "history.parquet").is_file()


def test_lightnings_other_doors(tmp_path: Path) -> None:
    trainer, module, data = plain(tmp_path, max_epochs=20)
    (found,) = trainer.test(module, data, verbose=False)
    assert found == trainer.validate(module, data, verbose=False)[0]
    rows: Any = trainer.predict(module, data)
    assert sorted(torch.cat([row.uids for row in rows]).tolist()) == list(range(6))
    Tuner(trainer).lr_find(module, data, num_training=20, update_attr=True)
    assert module.lr == module.optimizer_settings.lr != 1e-2


@pytest.mark.parametrize(("name", "value"), [("overfit_batches", 2), ("reload_dataloaders_every_n_epochs", 0)])
def test_options_that_break_the_plan_are_refused(tmp_path: Path, name: str, value: int) -> None:
    trainer, module, data = plain(tmp_path, **{name: value})
    with pytest.raises(ValueError, match=name):
        trainer.fit(module, data)
