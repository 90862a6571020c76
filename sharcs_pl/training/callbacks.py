"""Callbacks: the schedule, hardness history, the run directory's files and the bar."""

from __future__ import annotations

import csv
import importlib.util
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar, TQDMProgressBar
from rich import get_console
from torch import Tensor

from sharcs_pl.core.files import atomic_file
from sharcs_pl.core.plan import EpochPlan
from sharcs_pl.core.ranks import all_ranks, this_rank
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.training.checkpoints import epoch_is_whole
from sharcs_pl.training.schedule import linear_warmup_decay, stage_fraction

_MOST_UNREAD = 1000  # losses that may wait on their device
_SHOWN_FOR = 0.2  # seconds


def datamodule_of(trainer: L.Trainer) -> SharcsDataModule:
    """Return the trainer's datamodule, which keeps the history."""
    found = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(found, SharcsDataModule)
    return found


class EpochFractionSchedule(Callback):
    """Callback that sets the learning rate before every step, from the fraction of epochs done.

    Nothing is stored: a resumed run computes the same rates, and one that goes on from another run's checkpoint takes
    its own optimizer's settings, not those that the checkpoint was written with. After `restart_after` epochs, unless
    that is 0, the rate starts anew (Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983).
    """

    def __init__(self, warmup_fraction: float, restart_after: int = 0) -> None:
        self.warmup_fraction = warmup_fraction
        self.restart_after = restart_after

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fresh: Any = pl_module.configure_optimizers()
        for group, own in zip(trainer.optimizers[0].param_groups, fresh.param_groups, strict=True):
            group.update({key: value for key, value in own.items() if key not in ("params", "lr")})

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        steps, epochs = int(trainer.num_training_batches), trainer.max_epochs or 1
        fraction = stage_fraction(trainer.current_epoch, batch_idx, steps, epochs, self.restart_after)
        factor = linear_warmup_decay(fraction, self.warmup_fraction)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["peak_lr"] * factor


class HardnessHistory(Callback):
    """Callback that gives each step's scores to the history and closes its epoch; the next loader is planned from it.

    With a folder, the epoch is also written to ``history.parquet`` (epoch, uid, score, rung).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = folder / "history.parquet" if folder else None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        every: int = trainer.reload_dataloaders_every_n_epochs  # pyright: ignore[reportAttributeAccessIssue]
        if datamodule_of(trainer).bounds is not None and every != 1:
            raise ValueError(f"reload_dataloaders_every_n_epochs={every}: every epoch has its own plan; give 1")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        datamodule_of(trainer).record(outputs["uids"], outputs["scores"], outputs["rungs"], batch.step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not epoch_is_whole(trainer):
            return
        columns = datamodule_of(trainer).close_epoch()
        if self.path and trainer.is_global_zero:
            epoch = np.full(len(columns["uid"]), trainer.current_epoch, dtype=np.int32)
            append_epoch(self.path, pa.table({"epoch": epoch, **columns}), trainer.current_epoch)


class RankAgreement(Callback):
    """Callback that stops a run whose processes have different configs, or have planned different epochs."""

    def __init__(self, config_digest: str) -> None:
        self.config_digest = config_digest

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        check_agreement("config", self.config_digest)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            check_agreement("epoch plan", current_plan(trainer).digest())


def check_agreement(name: str, digest: str) -> None:
    """Raise ``RuntimeError`` listing the ranks' digests unless all are equal; a collective operation."""
    found = all_ranks(digest)
    if len(set(found)) > 1:
        listed = ", ".join(f"rank {rank}: {text}" for rank, text in enumerate(found))
        raise RuntimeError(f"the processes differ in their {name}: {listed}")


class CurveFiles(Callback):
    """Callback that writes ``metrics.csv`` (a row per epoch) and ``plan.csv`` (bucket sizes and steps per epoch).

    A logger gets both, the bucket sizes as ``plan/width_…``. The running sum of every rank's loss is checkpointed, so
    that a run resumed in mid-epoch writes what a whole one would.
    """

    def __init__(self, folder: Path, widths: Iterable[str]) -> None:
        self.folder = folder
        self.widths = list(widths)
        self._losses: list[Tensor] = []
        self._loss_sum = 0.0
        self._steps = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            plan = current_plan(trainer)
            row = {"epoch": trainer.current_epoch, "steps": plan.num_steps, "routed": plan.memberships is not None}
            sizes = {f"width_{w}": int(n) for w, n in zip(self.widths, plan.bucket_sizes, strict=True)}
            append_row(self.folder / "plan.csv", row | sizes)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(outputs["objective"])
        self._steps += 1
        if len(self._losses) == _MOST_UNREAD:
            self._add_losses()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not epoch_is_whole(trainer):
            return
        # A rank's loss counts for all ranks: their mean is the objective.
        loss = {"train/loss": float(np.mean(all_ranks(self._add_losses()))) / max(1, self._steps)}
        pl_module.log_dict(loss | self._plan_curves(trainer))
        if trainer.is_global_zero:
            row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            values = {name: float(x) for name, x in trainer.callback_metrics.items() if name.startswith("val/")}
            append_row(self.folder / "metrics.csv", row | loss | values)
        self._loss_sum, self._steps = 0.0, 0

    def _add_losses(self) -> float:
        """Add the losses kept since the last call, and return the sum: a GPU is waited for once for all of them."""
        for loss in torch.stack(self._losses).tolist() if self._losses else ():
            self._loss_sum += loss
        self._losses = []
        return self._loss_sum

    def _plan_curves(self, trainer: L.Trainer) -> dict[str, float]:
        sizes = zip(self.widths, current_plan(trainer).bucket_sizes, strict=True)
        return {f"plan/width_{width.replace('/', '_')}": float(size) for width, size in sizes}

    def state_dict(self) -> dict[str, Any]:
        return {"loss_sums": all_ranks(self._add_losses()), "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        sums, self._steps = state_dict["loss_sums"], state_dict["steps"]
        same_world = len(sums) == len(all_ranks(0))
        self._loss_sum = sums[this_rank()] if same_world else float(np.mean(sums))


class _Shown(ProgressBar):
    """Lightning's bar with the loss, the routed metric and the epoch's bucket sizes, narrow to full. A loss that is
    shown is waited for, so they change every fifth of a second, and at an epoch's end."""

    _shown: dict[str, Any]
    _shown_at = -math.inf

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        if not trainer.is_last_batch and time.monotonic() - self._shown_at < _SHOWN_FOR:
            return self._shown
        self._shown = self._get_metrics(trainer, pl_module)
        self._shown_at = time.monotonic()
        return self._shown

    def _get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        if "val/routed" in items:
            items["routed"] = items.pop("val/routed")
        if trainer.training and trainer.train_dataloader is not None:
            items["buckets"] = "/".join(str(size) for size in current_plan(trainer).bucket_sizes)
        return items


class SharcsProgressBar(_Shown, RichProgressBar):
    """The bar of a terminal, and of a notebook that has ipywidgets."""


class PlainProgressBar(_Shown, TQDMProgressBar):
    """The bar of a notebook without ipywidgets, in which rich would show none."""


def progress_bar() -> ProgressBar:
    """Return the bar for the place where the process prints."""
    plain = get_console().is_jupyter and importlib.util.find_spec("ipywidgets") is None
    return PlainProgressBar() if plain else SharcsProgressBar()


def current_plan(trainer: L.Trainer) -> EpochPlan:
    """Return the plan of the loader in use."""
    loader = trainer.train_dataloader
    assert loader is not None
    return loader.plan


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one epoch's row to a csv file; rows of this or a later epoch, left by an interrupted run, are replaced."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    rows.append(row)
    with atomic_file(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for r in rows for name in r)))
        writer.writeheader()
        writer.writerows(rows)


def append_epoch(path: Path, rows: pa.Table, epoch: int) -> None:
    """Add one epoch's rows to a parquet file, replacing rows as ``append_row`` does."""
    if path.exists():
        old = pq.read_table(path)
        rows = pa.concat_tables([old.filter(old["epoch"].to_numpy() < epoch), rows])
    with atomic_file(path) as part:
        pq.write_table(rows, part)
