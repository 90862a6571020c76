"""The Trainer of transformers, with the hardness of samples and their rungs (design legend: B, S, W)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from sharcs_pl.core.hardness import SCORES, HardnessBuffer, sample_scores
from sharcs_pl.core.plan import EpochPlan, PlanConfig, make_plan
from sharcs_pl.core.ranks import all_ranks
from sharcs_pl.models.routed import SharcsForSequenceClassification

UIDS = "uids"
FILE = "hardness.pt"


class SharcsTrainer(Trainer):
    """transformers' `Trainer` for a routed model: the scores of each epoch decide at which widths samples train in the
    next one, and what the router learns (SHARCS, arXiv 2310.12126).

    Every sample runs once per epoch, on the rung drawn for it, in batches of mixed rungs. Other than in ``sharcs
    train``, small buckets are not repeated, so that epochs have one length. Checkpoints hold the scores. Several
    processes share the scores at the end of an epoch and have one plan.

    Args:
        train_dataset: a dataset with a length, whose rows have ``labels``.
        score: hardness score, ``confidence`` or ``entropy``.
        bounds: one ``(lo, hi)`` of the score per width, narrow first; None for the default of two widths.
        window: number of last epochs whose scores must lie in a rung's bounds; as many run at full width first.
        label_range: width of the labels' range, for a regression.

    The other arguments are those of `Trainer`. Raise ``ValueError`` naming the argument that is missing or does not
    fit.
    """

    def __init__(
        self,
        model: SharcsForSequenceClassification,
        args: TrainingArguments | None = None,
        *,
        train_dataset: Any = None,
        score: str = "confidence",
        bounds: Sequence[tuple[float, float]] | None = None,
        window: int = 2,
        label_range: float | None = None,
        **options: Any,
    ) -> None:
        self.bounds = _bounds(model, score, bounds)
        self.score, self.label_range, self.num_rungs = score, label_range, len(model.ladder)
        if (label_range is None) != model.kind.has_classes:
            raise ValueError("label_range: a regression (num_labels=1) needs it, and only a regression")
        if train_dataset is not None and not hasattr(train_dataset, "__len__"):
            raise ValueError("train_dataset: a dataset without a length has no samples whose hardness can be kept")
        numbered = None if train_dataset is None else _Numbered(train_dataset)
        self.history = HardnessBuffer(len(numbered or ()), window)
        self._plan: EpochPlan | None = None
        super().__init__(model, args, train_dataset=numbered, **options)  # pyright: ignore[reportArgumentType]
        self._check_unused()
        self.add_callback(_Epochs(self))
        model.config.problem_type = model.kind.problem_type  # pyright: ignore[reportAttributeAccessIssue]

    def _check_unused(self) -> None:
        """Refuse processes that wait for gradients of every weight: a step trains what its samples ran at."""
        ddp = self.accelerator.ddp_handler
        if self.args.world_size > 1 and ddp is not None and not ddp.find_unused_parameters:
            raise ValueError(
                "ddp_find_unused_parameters: no step on several processes trains all widths and the router; give True "
                "(with gradient checkpointing Trainer's default is False)"
            )

    @property
    def plan(self) -> EpochPlan:
        """The plan of the epoch being recorded, which has the rung and the memberships of every sample."""
        if self._plan is None or self._plan.epoch != self.history.num_epochs:
            members = self.history.memberships(self.bounds)
            config, lengths = PlanConfig(1, self.num_rungs, fill="none"), np.ones(self.history.num_samples, np.int64)
            self._plan = make_plan(members, lengths, config, seed=self.args.seed, epoch=self.history.num_epochs)
        return self._plan

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a batch [B] at its rungs, of task and router, and record the scores of its samples."""
        if UIDS not in inputs:  # an evaluation
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        uids, plan = inputs.pop(UIDS).cpu(), self.plan
        rungs, members = torch.from_numpy(plan.rungs).long()[uids], plan.memberships
        targets = None if members is None else torch.from_numpy(members)[uids].to(self.args.device)
        out = model(**inputs, rungs=rungs.to(self.args.device), memberships=targets)
        scores = sample_scores(out.logits, inputs["labels"], self.score, self.label_range)
        self.history.record(uids, scores, rungs, self.state.global_step)
        return (out.loss, out) if return_outputs else out.loss

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch as `Trainer` does, by the model's rule; scores are not recorded."""
        inputs.pop(UIDS, None)
        return super().prediction_step(model, inputs, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        self._signature_columns = [*{*self._signature_columns, UIDS}]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        if not (folder / FILE).is_file():
            raise ValueError(f"resume_from_checkpoint={folder} has no {FILE}; give a checkpoint of SharcsTrainer")
        self.history.load_state_dict(torch.load(folder / FILE, weights_only=True))
        epochs = TrainerState.load_from_json(str(folder / "trainer_state.json")).epoch or 0.0
        if self.history.num_epochs < int(round(epochs, 6)):  # saved by the last step of an epoch, before its end
            self.history.close_epoch()


class _Epochs(TrainerCallback):
    """Callback that closes the epochs of a trainer's history, and writes it into checkpoints."""

    def __init__(self, trainer: SharcsTrainer) -> None:
        self.trainer = trainer

    def _merge(self) -> HardnessBuffer:
        history = self.trainer.history
        if self.trainer.args.world_size > 1:
            history.merge(all_ranks(history.recorded()))
        return history

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self._merge().close_epoch()

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        history, folder = self._merge(), Path(str(args.output_dir), f"checkpoint-{state.global_step}")
        if state.is_world_process_zero:
            torch.save(history.state_dict(), folder / FILE)


class _Numbered(Dataset[dict[str, Any]]):
    """A dataset whose rows have their number, by which the history knows them."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], UIDS: index}


def _bounds(
    model: SharcsForSequenceClassification, score: str, bounds: Sequence[tuple[float, float]] | None
) -> Sequence[tuple[float, float]]:
    if model.router is None:
        raise ValueError("model: it has no router to train; use Trainer, or a model of several widths with a router")
    if score not in SCORES:
        raise ValueError(f"score={score!r} is none of {', '.join(SCORES)}")
    found = SCORES[score].bounds if bounds is None else bounds
    if len(found) != len(model.ladder):
        raise ValueError(f"bounds: {len(found)} for {len(model.ladder)} widths; give one (lo, hi) per width")
    return found
