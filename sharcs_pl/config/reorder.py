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
    """The cuts whose accuracy is reported; the order itself serves every width."""

    multipliers: list[Any] = field(default_factory=lambda: [0.25, 0.5, 1.0])
    """Widths at which the accuracy before and after is reported."""
    split_layer: int = 1
    """Full-width layers below the cut ones in that report."""

    def __post_init__(self) -> None:
        self.multipliers = WidthLadder.parse(self.multipliers).labels()
        in_range("width.split_layer", self.split_layer, 1)


@dataclass
class ReorderConfig:
    """Put an encoder's important heads and feed-forward neurons first, where narrow widths find them."""

    run: str | None = field(default=None, metadata=PATH)
    """A trained run (best one of ``method=dense``) whose fine-tuned encoder, head, task and texts are used. Null: the
    encoder below, with a head that is fitted first where the checkpoint has none for this task."""
    weights: str = "trained"
    """With ``run``, what is saved in the new order: ``trained``, its weights and head; ``pretrained``, those of the
    checkpoint that it started from."""
    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    split: str = "train"
    """The texts that measure importance: ``train``, or ``dev`` as the reference does."""
    samples: int | None = 1024
    """How many of them, drawn with the seed; null takes all."""
    batch_size: int = 32
    """Samples per batch; no result depends on it but that of fitting the head."""
    head_steps: int = 100
    """Steps that fit a fresh head, the encoder frozen; the fitted head is not saved. 0 leaves it random."""
    head_lr: float = 1e-3
    """AdamW's learning rate of these steps."""
    width: ReorderWidth = field(default_factory=ReorderWidth)
    eval_samples: int | None = 2000
    """Validation texts at most for the report; null takes all."""
    seed: int = 1
    """Of the samples, the fresh head and its batches."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""
    output: str = field(default=MISSING, metadata=PATH)
    """The folder to write: a checkpoint for ``encoder.pretrained=``, ``importance.parquet``, ``importance.png`` and
    ``reorder.json``."""
    overwrite: bool = False
    """Replace the outcome of an earlier reordering in ``output``."""

    def __post_init__(self) -> None:
        one_of("weights", self.weights, ("trained", "pretrained"))
        one_of("split", self.split, ("train", "dev"))
        one_of("device", self.device, ("cpu", "cuda"))
        for name in ("samples", "eval_samples"):
            if getattr(self, name) is not None:
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
        """What a training run on this task from this encoder would be given."""
        bounds = [[0.0, 1.0]] * len(self.width.multipliers)
        width = WidthConfig(self.width.multipliers, bounds, self.width.split_layer)
        return RunConfig(task=self.task, encoder=self.encoder, width=width, seed=self.seed)

    def applied_to(self, run: RunConfig) -> RunConfig:
        """The config of ``run``, with its texts where they are now and this command's widths."""
        keys = ("data_dir", "train", "dev", "delimiter", "encoding")
        paths = {key: getattr(self.task, key) for key in keys if getattr(self.task, key) is not None}
        return replace(run, task=replace(run.task, **paths), width=self.run_config().width)
