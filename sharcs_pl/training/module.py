"""The LightningModule, which turns one plan step into one objective."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from sharcs_pl.core.ranks import all_ranks
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.data.sampler import EvalBatch, MicroBatch, StepBatch
from sharcs_pl.data.tasks import TaskSpec
from sharcs_pl.evaluation.curves import area_under
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.base import LadderModel
from sharcs_pl.training.callbacks import HardnessHistory
from sharcs_pl.training.objective import BatchLosses, ObjectiveConfig
from sharcs_pl.training.rules import Progress, StepContents, TrainingRule


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW's peak ``lr``, its factor ``new_lr_scale`` for parts added by surgery, decay of tensors of >= 2 dims."""

    lr: float = 2e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    new_lr_scale: float = 1.0


def derive_seed(*parts: int) -> int:
    """Return a seed that depends on every one of ``parts`` and is equal on every platform."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def anchor(parameters: list[nn.Parameter]) -> Tensor:
    """Return a zero that depends on ``parameters``; under DDP a parameter no rank used would stop the next step."""
    return 0.0 * torch.stack([p.sum() for p in parameters]).sum() if parameters else torch.zeros(())


class SharcsModule(L.LightningModule):
    """A routed (or dense) classifier in training, step by step of an epoch plan.

    ``training_step`` takes a :class:`StepBatch` and returns its loss and, for the hardness history, the uids, scores
    and rungs of its samples. Validation runs every rung on every sample and keeps the :class:`Predictions` of each
    split in ``self.predictions``. ``record`` is the run's config in plain types, kept in every
    checkpoint and given to loggers. With ``area`` validation also logs the area under the curve of value against cost.
    """

    def __init__(
        self,
        model: LadderModel,
        task: TaskSpec,
        objective: ObjectiveConfig | None = None,
        optimizer: OptimizerSettings | None = None,
        seed: int = 1,
        record: dict[str, Any] | None = None,
        rule: TrainingRule | None = None,
        area: bool = False,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.record = record
        self.task = task
        self.objective = objective or ObjectiveConfig()
        self.optimizer_settings = optimizer or OptimizerSettings()
        self.seed = seed
        self.rule = rule or TrainingRule()
        self.area = area
        self.predictions: dict[str, Predictions] = {}
        self._untrained: dict[int, nn.Parameter] | None = None
        self._collected: dict[str, list[Predictions]] = {}

    def setup(self, stage: str) -> None:
        if self.trainer.overfit_batches:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError("overfit_batches: steps come from an epoch plan; use limit_train_batches")

    def configure_callbacks(self) -> list[L.Callback]:
        """Bring the callback that keeps the history to a trainer that has a plan to make of it, and none yet."""
        plans = isinstance(getattr(self.trainer, "datamodule", None), SharcsDataModule)
        known = any(isinstance(each, HardnessHistory) for each in self.trainer.callbacks)  # pyright: ignore
        return [HardnessHistory()] if plans and not known else []

    @property
    def lr(self) -> float:
        """The peak learning rate, which Lightning's `Tuner.lr_find` sets."""
        return self.optimizer_settings.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer_settings = replace(self.optimizer_settings, lr=value)

    def on_fit_start(self) -> None:
        self.train()  # models are made and loaded in evaluation mode, and Lightning keeps what it finds
        self.model.config.problem_type = self.task.kind.problem_type

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # Lightning would wait for a GPU to have done all before it copies. Copies to a CPU must be waited for.
        return batch.to(device, non_blocking=device.type == "cuda")

    def training_step(self, step: StepBatch, batch_idx: int) -> dict[str, Any]:
        batches = [batch for batch in step.batches if len(batch.uids)]  # a rank's part of a small batch may be empty
        losses = [self._run(batch, step) for batch in batches]
        shares = [self._share(loss, batch) for loss, batch in zip(losses, batches, strict=True)]
        self._note_idle(step)
        loss = sum(shares, self._anchor(step, batches))
        rungs = [torch.full_like(batch.uids, batch.rung) for batch in batches]
        empty = torch.zeros(0, dtype=torch.long, device=self.device)
        return {
            "loss": loss,
            "objective": loss.detach(),  # Lightning divides the loss by the number of accumulated steps
            "uids": torch.cat([batch.uids for batch in batches] or [empty]),
            "scores": torch.cat([loss.scores for loss in losses] or [empty.float()]),
            "rungs": torch.cat([*rungs] or [empty]),
        }

    def _run(self, batch: MicroBatch, step: StepBatch) -> BatchLosses:
        # Dropout depends on where the batch stands in the plan, not on what ran before: a resumed run goes on exactly.
        torch.manual_seed(derive_seed(self.seed, step.epoch, step.step, batch.slot, batch.shard))
        return self.rule.losses(self.model, batch, self.objective, self._progress(step.epoch, step.step))

    def _progress(self, epoch: int, step: int = 0) -> Progress:
        return Progress(epoch, step, self.trainer.max_epochs or 1, self.rule.stage_epochs)

    def _idle(self, step: StepBatch, rungs: frozenset[int]) -> list[nn.Parameter]:
        progress = self._progress(step.epoch, step.step)
        return self.rule.idle(self.model, StepContents(rungs, step.routed), self.objective, progress)

    def _note_idle(self, step: StepBatch) -> None:
        """Keep the parameters that none of the steps accumulated so far has trained, on any process."""
        idle = {id(parameter): parameter for parameter in self._idle(step, step.rungs)}
        known = self._untrained
        self._untrained = idle if known is None else {key: p for key, p in idle.items() if key in known}

    def _anchor(self, step: StepBatch, batches: Sequence[MicroBatch]) -> Tensor:
        """Return a zero that depends on every parameter left out by this process; else DDP's next step would fail."""
        if self.trainer.world_size == 1:
            return torch.zeros((), device=self.device)
        if not batches:
            return anchor(list(self.model.parameters()))
        return anchor(self._idle(step, frozenset(batch.rung for batch in batches)))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Without a gradient a parameter is left alone. With one of zero, which processes have for what only another
        # one trains and all have for what none does, momentum and decay would move it and Adam would count the step.
        for parameter in (self._untrained or {}).values():
            parameter.grad = None
        self._untrained = None

    def _share(self, losses: BatchLosses, batch: MicroBatch) -> Tensor:
        """Return this batch's part of the step's objective; DDP averages over ranks, hence the factor of world size."""
        config = self.objective
        total = losses.task + config.router_weight * losses.router + config.distill_weight * losses.distill
        weight = batch.bucket_weight if config.weight_by_bucket else 1.0
        return total * (weight * self.trainer.world_size / (batch.count * batch.num_batches))

    def on_train_batch_end(self, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        self.log("loss", outputs["objective"], prog_bar=True, on_step=True, on_epoch=False)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning refuses to clip for a fused optimizer under mixed precision, which unscales within its step. That
        # step leaves gradients alone which are unscaled already, and bf16 has no scale.
        if gradient_clip_val:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.optimizer_settings
        new = {id(p) for p in self.model.new_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for p in self.model.parameters():
            groups.setdefault((p.ndim >= 2, id(p) in new), []).append(p)
        return torch.optim.AdamW(
            [
                {
                    "params": params,
                    "weight_decay": settings.weight_decay if decayed else 0.0,
                    "lr": settings.lr * (settings.new_lr_scale if is_new else 1.0),
                    "peak_lr": settings.lr * (settings.new_lr_scale if is_new else 1.0),
                }
                for (decayed, is_new), params in groups.items()
            ],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # What a lone checkpoint needs to be read: the run's config and the model's.
        if self.record is not None:
            model = json.loads(self.model.config.to_json_string(use_diff=False))
            checkpoint["sharcs"] = {"config": self.record, "model": model}

    def on_validation_epoch_start(self) -> None:
        self._collected = {}

    def validation_step(self, batch: EvalBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        if len(batch.uids):
            found = self._predictions(batch)
            self._collected.setdefault(self.task.validation[dataloader_idx], []).append(found)

    def predict_step(self, batch: EvalBatch, batch_idx: int, dataloader_idx: int = 0) -> Predictions:
        """Return the predictions of a batch on every rung, on the CPU; `uids` tell which samples they are of."""
        return self._predictions(batch).to("cpu")

    def _predictions(self, batch: EvalBatch) -> Predictions:
        logits, signals, macs = self.model.all_rungs(**batch.inputs)
        decision = self.model.decide(logits, signals)
        router_logits = logits.new_zeros(len(logits), 1) if signals is None else signals
        difficulty = torch.full_like(batch.uids, -1) if batch.difficulty is None else batch.difficulty
        rows = (batch.uids, logits.float(), router_logits.float(), decision.rungs, batch.labels, batch.lengths)
        found = Predictions(*rows, difficulty, macs, thresholds=self.model.thresholds)
        return found.decided(decision)

    def on_validation_epoch_end(self) -> None:
        # A GPU is waited for here, not at each batch.
        own = {split: [batch.to("cpu") for batch in found] for split, found in self._collected.items()}
        everywhere = all_ranks(own)  # each rank has run batches of its own
        self._collected = {}
        rows = {split: [row for rank in everywhere for row in rank.get(split, ())] for split in self.task.validation}
        self.predictions = {split: Predictions.gather(found) for split, found in rows.items() if found}
        if not self.predictions[self.task.validation[0]].labelled:
            return
        for name, value in self.validation_metrics().items():
            self.log(name, value, prog_bar=name == "val/routed")

    def validation_metrics(self) -> dict[str, float]:
        """Return the task's first metric on its first validation split, routed and at every fixed rung."""
        found = self.predictions[self.task.validation[0]]
        metric, labels = self.task.metrics[0], found.labels
        values = {"val/routed": compute_metric(metric, found.routed_logits(), labels)}
        for rung, label in enumerate(self.model.ladder.labels()):
            values[f"val/rung_{label.replace('/', '_')}"] = compute_metric(metric, found.scores[:, rung], labels)
        shares = found.shares(len(self.model.ladder))
        values |= {f"val/share_{i}": share for i, share in enumerate(shares)}
        values["val/macs_fraction"] = found.macs_fraction(self.model.cost)
        return values | ({"val/area": area_under(self.model, found, metric)} if self.area else {})

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end
