"""The keys of ``sharcs reorder``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.model import EncoderConfig, WidthConfig
from sharcs_pl.config.run import RunConfig
from sharcs_pl.config.task import TaskConfig
from sharcs_pl.config.texts import PATH
from sharcs_pl.core.widths import WidthLadder


@dataclass
class ReorderWidth:
    """The widths in the report of accuracy. The order itself does not depend on them."""

    multipliers: list[Any] = field(default_factory=lambda: [0.25, 0.5, 1.0])
    """Widths at which the accuracy before and after is reported."""
    split_layer: int = 1
    """Full-width layers below the cut layers in the report."""

    def __post_init__(self) -> None:
        self.multipliers = WidthLadder.parse(self.multipliers).labels()
        in_range("width.split_layer", self.split_layer, 1)


@dataclass
class ReorderConfig:
    """Reorder an encoder's heads and feed-forward neurons by importance, so that narrow widths keep the best ones."""

    run: str | None = field(default=None, metadata=PATH)
    """Trained run, preferably of ``method=dense``, whose fine-tuned encoder, head, task and texts are used. Null takes
    ``encoder``, and first fits a head if the checkpoint has none for this task."""
    weights: str = "trained"
    """Weights to save in the new order with ``run``: ``trained``, its own weights and head; ``pretrained``, the
    weights of the checkpoint that it started from."""
    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    split: str = "train"
    """Split whose texts measure importance: ``train``, or ``dev`` as in the reference."""
    samples: int | None = 1024
    """Number of texts that measure importance, drawn with the seed; null takes all."""
    batch_size: int = 32
    """Samples per batch; it affects only the fitting of the head."""
    head_steps: int = 100
    """Steps that fit a fresh head on the frozen encoder; 0 leaves it random. The fitted head is not saved."""
    head_lr: float = 1e-3
    """Learning rate of AdamW for fitting the head."""
    width: ReorderWidth = field(default_factory=ReorderWidth)
    eval_samples: int | None = 2000
    """Largest number of validation texts for the report; null takes all."""
    seed: int = 1
    """Seed of the samples, the fresh head and its batches."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""
    output: str = field(default=MISSING, metadata=PATH)
    """Folder to write a checkpoint for ``encoder.pretrained=``, ``importance.parquet``, ``importance.png`` and
    ``reorder.json`` to."""
    overwrite: bool = False
    """Replace the results of an earlier reordering in ``output``."""

    def __post_init__(self) -> None:
        one_of("weights", self.weights, ("trained", "pretrained"))
        one_of("split", self.split, ("train", "dev"))
        one_of("device", self.device, ("cpu", "cuda"))
        for name in ("samples", "eval_samples"):
            in_range(name, getattr(self, name), 1)
        in_range("batch_size", self.batch_size, 1)
        in_range("head_steps", self.head_steps, 0)
        in_range("head_lr", self.head_lr, 0)
        in_range("seed", self.seed, 0, 2**32 - 1)
        if self.run is None and self.encoder.pretrained is None:
            raise ValueError(
                f"encoder={self.encoder.name} starts from scratch: no head matters yet; give run=<a trained run>, or "
                "encoder=minilm, bert, … or encoder.pretrained=<folder>"
            )

    def run_config(self) -> RunConfig:
        """Return the config of a training run on this task from this encoder."""
        bounds = [[0.0, 1.0]] * len(self.width.multipliers)
        width = WidthConfig(self.width.multipliers, bounds, self.width.split_layer)
        return RunConfig(task=self.task, encoder=self.encoder, width=width, seed=self.seed)

    def applied_to(self, run: RunConfig) -> RunConfig:
        """Return the config of ``run`` with this command's data paths and widths."""
        keys = ("data_dir", "train", "dev", "delimiter", "encoding")
        paths = {key: getattr(self.task, key) for key in keys if getattr(self.task, key) is not None}
        return replace(run, task=replace(run.task, **paths), width=self.run_config().width)
