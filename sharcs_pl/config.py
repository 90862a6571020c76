"""One dataclass per group of ``conf/``; each checks itself, ``RunConfig`` checks them against each other.

The string under a field is its help text. Nothing here imports torch, so that a wrong key answers at once.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from sharcs_pl.core.widths import WidthLadder


def conf_dir() -> Path:
    """The yaml folder: ``conf/`` beside the package in a checkout, inside the package in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ``ValueError`` naming ``key`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{key}={value} is unknown; choose one of: {', '.join(choices)}")


def in_range(key: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise ``ValueError`` naming ``key`` unless ``low <= value <= high``."""
    if not low <= value <= high:
        limit = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{key}={value} is out of range; it must be {limit}")


@dataclass
class TaskConfig:
    """What is classified."""

    name: str = MISSING
    """``graded`` (the embedded default) or a GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli."""
    data_dir: str | None = None
    """Folder with the task's ``train.tsv`` and ``dev.tsv`` (or the GLUE folder above it); null loads nyu-mll/glue."""
    max_length: int = 128
    """Longest input in tokens, special tokens included; longer ones are truncated."""
    max_train_samples: int | None = None
    """Train on this many samples, drawn with the seed; null takes all."""
    train_size: int = 8000
    """Sentences in the training split (``graded`` only)."""
    dev_size: int = 2000
    """Sentences in the validation split (``graded`` only)."""

    def __post_init__(self) -> None:
        in_range("task.max_length", self.max_length, 4)
        in_range("task.train_size", self.train_size, 1)
        in_range("task.dev_size", self.dev_size, 1)
        if self.max_train_samples is not None:
            in_range("task.max_train_samples", self.max_train_samples, 1)


@dataclass
class EncoderConfig:
    """The stock transformers model that is fine-tuned."""

    name: str = MISSING
    """A short name, for the run directory and the tables."""
    pretrained: str | None = None
    """Hub id, local folder, or ``pkg:<package>/<folder>`` inside an installed package; null starts from scratch."""
    dropout: float | None = None
    """Dropout of embeddings, attention, layers and head; null keeps the checkpoint's own."""
    attn_implementation: str | None = None
    """transformers' attention kernel, ``sdpa`` or ``eager`` (faster in bf16 on CPUs); null: its default."""
    hidden_size: int = 128
    """Hidden size of an encoder from scratch (``pretrained: null``); likewise the three below."""
    num_layers: int = 4
    """Layers of an encoder from scratch."""
    num_heads: int = 4
    """Attention heads of an encoder from scratch."""
    intermediate_size: int = 512
    """Feed-forward size of an encoder from scratch."""

    def __post_init__(self) -> None:
        if self.dropout is not None:
            in_range("encoder.dropout", self.dropout, 0, 1)
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            in_range(f"encoder.{name}", getattr(self, name), 1)


def _bound(pair: Any) -> list[float]:
    numbers = isinstance(pair, list) and all(isinstance(x, int | float) for x in pair)
    if not numbers or len(pair) != 2 or not pair[0] <= pair[1]:
        raise ValueError(f"width.bounds has {pair}; each entry is a pair of numbers [lo, hi] with lo <= hi")
    return [float(x) for x in pair]


@dataclass
class WidthConfig:
    """The ladder of widths and how a rung is cut (paper section 2.2)."""

    multipliers: list[Any] = field(default_factory=lambda: [0.25, 1.0])
    """Widths from narrow to full, numbers or fractions such as "1/3"; the last is 1."""
    bounds: list[Any] = field(default_factory=lambda: [[0.8, 1.0], [0.0, 0.8]])
    """One ``[lo, hi]`` of the hardness score per width, both ends included; ranges may overlap (paper section 2.1)."""
    split_layer: int = 1
    """Full-width layers before the router; the layers after it run at the chosen width."""
    reduction: str = "slice"
    """``slice`` keeps the leading hidden dims after the split layer; ``learned`` pools neighbouring dims (paper)."""
    norm_init: str = "pretrained"
    """Private norms start from the leading slice of the pretrained ones, or from ``scratch`` (the reference)."""
    top_rung_norm: bool = False
    """Add a fresh norm after the split layer at full width too, as the reference does."""
    loss_weights: list[float] | None = None
    """Weight of each rung's batch in the objective; null weighs all alike."""

    def __post_init__(self) -> None:
        ladder = WidthLadder.parse(self.multipliers)
        self.multipliers = ladder.labels()  # 1, 1.0 and "1" are the same width, and the same run
        one_of("width.reduction", self.reduction, ("slice", "learned"))
        one_of("width.norm_init", self.norm_init, ("pretrained", "scratch"))
        in_range("width.split_layer", self.split_layer, 1)
        for key, value in (("bounds", self.bounds), ("loss_weights", self.loss_weights)):
            if value is not None and len(value) != len(ladder):
                raise ValueError(f"width.{key} has {len(value)} entries; width.multipliers asks for {len(ladder)}")
        self.bounds = [_bound(pair) for pair in self.bounds]
        for weight in self.loss_weights or ():
            in_range("width.loss_weights", weight, 0)


@dataclass
class RouterConfig:
    """The router after the split layer (paper section 2.2)."""

    hidden_size: int = 64
    """Hidden units of the router's two-layer perceptron."""
    loss_weight: float = 1.0
    """Weight of the router's binary cross-entropy beside the task loss (paper equation 1)."""
    threshold: float | None = None
    """Run a sample on the narrowest width whose membership probability reaches this; null: the likeliest (paper)."""
    warmup_loss: bool = False
    """Train the router during the window too, every sample labelled full width, as the reference does."""

    def __post_init__(self) -> None:
        in_range("router.hidden_size", self.hidden_size, 1)
        in_range("router.loss_weight", self.loss_weight, 0)
        if self.threshold is not None:
            in_range("router.threshold", self.threshold, 0, 1)


@dataclass
class HardnessConfig:
    """How hard a training sample is, and which rung trains on it (paper section 2.1)."""

    score: str = "confidence"
    """``confidence`` of the true class or ``entropy`` in nats; regression always scores closeness to the target."""
    window: int = 2
    """Epochs whose scores must all lie in a rung's bounds; until they are over, all train at full width."""
    warmup_epochs: int | None = None
    """Epochs at full width before anything is routed, at least ``window``; null: as many as ``window`` (paper)."""
    fill: str = "repeat"
    """``repeat`` small buckets towards the largest, or ``none``."""
    repeat_cap: int = 4
    """A sample is repeated at most this often in an epoch."""
    weight_by_bucket: bool = False
    """Weigh each rung's batch by its bucket's share of the samples times the number of rungs."""

    def __post_init__(self) -> None:
        one_of("hardness.score", self.score, ("confidence", "entropy"))
        one_of("hardness.fill", self.fill, ("repeat", "none"))
        in_range("hardness.window", self.window, 1)
        if self.warmup_epochs is not None:
            in_range("hardness.warmup_epochs", self.warmup_epochs, self.window)
        in_range("hardness.repeat_cap", self.repeat_cap, 1)


@dataclass
class MethodConfig:
    """What is trained."""

    name: str = MISSING
    """``sharcs``, or ``dense``: the stock model alone, with as many samples per step."""
    match: str | None = None
    """``dense`` only: run directory of a sharcs run whose number of steps in each epoch is matched."""

    def __post_init__(self) -> None:
        if self.match and self.name != "dense":
            raise ValueError(f"method.match works with method=dense only, not with method={self.name}")


@dataclass
class DistillConfig:
    """Learning from the top rung beside the labels."""

    name: str = "none"
    """``top``: on every batch each narrow rung also learns the top rung's logits (not in the paper); or ``none``."""
    weight: float = 1.0
    """Weight of the distillation loss beside the task loss."""
    temperature: float = 1.0
    """Softmax temperature of both sides (Hinton et al. 2015); regression uses squared error instead."""

    def __post_init__(self) -> None:
        one_of("distill", self.name, ("none", "top"))
        in_range("distill.weight", self.weight, 0)
        in_range("distill.temperature", self.temperature, 1e-3)


@dataclass
class OptimConfig:
    """AdamW with a linear warm-up and decay over the fraction of epochs done."""

    lr: float = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decay of tensors with two or more dimensions; biases and norms are never decayed."""
    warmup_fraction: float = 0.06
    """Share of all epochs over which the learning rate rises from 0."""
    beta1: float = 0.9
    """Adam's decay of the first moment."""
    beta2: float = 0.999
    """Adam's decay of the second moment."""
    eps: float = 1e-8
    """Adam's epsilon."""
    new_lr_scale: float = 1.0
    """Factor on the learning rate of the parts surgery adds: router, private norms, learned reductions."""

    def __post_init__(self) -> None:
        in_range("optim.lr", self.lr, 0)
        in_range("optim.weight_decay", self.weight_decay, 0)
        in_range("optim.warmup_fraction", self.warmup_fraction, 0, 1)
        in_range("optim.new_lr_scale", self.new_lr_scale, 0)


@dataclass
class TrainerConfig:
    """Arguments of ``lightning.Trainer``, under its own names."""

    max_epochs: int = 6
    """Epochs to train; must exceed ``hardness.window``."""
    accelerator: str = "auto"
    """``cpu``, ``gpu``, ``mps`` or ``auto``."""
    devices: Any = 1
    """Number of devices, a list of their indices, or ``auto``."""
    num_nodes: int = 1
    """Machines in a distributed run."""
    strategy: str = "auto"
    """Distributed strategy."""
    precision: Any = "32-true"
    """``32-true``, ``bf16-mixed``, ``64-true``."""
    gradient_clip_val: float | None = 1.0
    """Largest norm of the gradient; null does not clip."""
    accumulate_grad_batches: int = 1
    """Plan steps per optimizer step."""
    log_every_n_steps: int = 50
    """Steps between two logged training losses."""
    limit_train_batches: Any = None
    """Steps (or share of them) per epoch, for quick checks."""
    limit_val_batches: Any = None
    """Validation batches (or share of them), for quick checks."""
    max_steps: int = -1
    """Stop after so many optimizer steps; -1 never."""
    max_time: str | None = None
    """Stop after ``DD:HH:MM:SS``."""
    enable_progress_bar: bool = True
    """Show the bar."""
    enable_model_summary: bool = False
    """Print Lightning's table of layers."""
    deterministic: bool = False
    """Ask torch for deterministic kernels (CPU runs are deterministic without)."""
    detect_anomaly: bool = False
    """Look for NaN in the backward pass."""
    profiler: str | None = None
    """``simple`` or ``advanced``."""

    def __post_init__(self) -> None:
        in_range("trainer.max_epochs", self.max_epochs, 1)
        in_range("trainer.accumulate_grad_batches", self.accumulate_grad_batches, 1)


@dataclass
class CheckpointConfig:
    """What is kept of a run under ``checkpoints/``."""

    every_n_epochs: int = 1
    """Write ``last.ckpt`` at the end of every n-th epoch."""
    every_n_steps: int | None = None
    """Write ``last.ckpt`` every so many steps as well."""
    every_n_minutes: float | None = None
    """Write ``last.ckpt`` every so many minutes as well."""
    save_last: bool = True
    """Keep ``last.ckpt``, from which a run goes on."""
    save_best: bool = True
    """Keep ``best.ckpt``, by the routed metric, counted from the first routed epoch."""
    max_macs_fraction: float | None = None
    """Count a routed epoch for ``best.ckpt`` only if it costs at most this fraction of dense; null counts all."""

    def __post_init__(self) -> None:
        in_range("checkpoint.every_n_epochs", self.every_n_epochs, 1)
        if self.every_n_steps is not None and self.every_n_minutes is not None:
            raise ValueError("checkpoint.every_n_steps and checkpoint.every_n_minutes exclude each other; set one")


@dataclass
class LoggerConfig:
    """Where curves go beside ``metrics.csv``, which every run writes."""

    name: str = "none"
    """``none``, ``tensorboard`` or ``wandb``."""
    project: str = "sharcs"
    """W&B project."""
    offline: bool = False
    """W&B without a network."""

    def __post_init__(self) -> None:
        one_of("logger", self.name, ("none", "tensorboard", "wandb"))


@dataclass
class RunConfig:
    """A whole training run, as ``conf/train.yaml`` composes it."""

    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    width: WidthConfig = field(default_factory=WidthConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    hardness: HardnessConfig = field(default_factory=HardnessConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    batch_size: int = 32
    """Samples per rung and step, over all processes; a step holds one such batch per rung."""
    eval_batch_size: int = 64
    """Samples per validation batch."""
    seed: int = 1
    """Seed of everything random."""
    ckpt_path: str | None = None
    """``last`` goes on where the run directory's run stopped; or the path of a checkpoint."""
    overwrite: bool = False
    """Replace the run that the run directory holds."""

    def __post_init__(self) -> None:
        in_range("batch_size", self.batch_size, 1)
        in_range("eval_batch_size", self.eval_batch_size, 1)
        in_range("seed", self.seed, 0, 2**32 - 1)
        self._check_hardness()

    def _check_hardness(self) -> None:
        if self.method.name == "dense":
            return
        if self.first_routed_epoch >= self.trainer.max_epochs:
            name = "window" if self.hardness.warmup_epochs is None else "warmup_epochs"
            raise ValueError(
                f"hardness.{name}={self.first_routed_epoch} leaves no routed epoch in "
                f"trainer.max_epochs={self.trainer.max_epochs}; give a smaller {name} or more epochs"
            )
        high = 1.0 if self.hardness.score == "confidence" else math.inf
        for low_i, high_i in self.width.bounds:
            if low_i < 0 or high_i > high:
                limit = "[0, 1]" if high == 1.0 else "[0, inf)"
                raise ValueError(f"width.bounds has [{low_i}, {high_i}]; a {self.hardness.score} lies in {limit}")

    @property
    def first_routed_epoch(self) -> int:
        """The first epoch planned from hardness; 0 where nothing is routed."""
        if self.method.name == "dense":
            return 0
        return self.hardness.warmup_epochs or self.hardness.window

    def digest(self) -> str:
        """Hash of all that shapes the result: the same for a run and its resumption."""
        kept = asdict(self)
        for key in ("ckpt_path", "overwrite", "logger", "checkpoint"):
            kept.pop(key)
        kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in DISPLAY_KEYS}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


DISPLAY_KEYS = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler", "max_time")
