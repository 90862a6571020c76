"""One dataclass per group of ``conf/``; each checks itself, ``RunConfig`` checks them against each other.

The string under a field is its help text. Nothing here imports torch, so that a wrong key answers at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from sharcs_pl.core.widths import WidthLadder, check_split


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
    if not low <= value <= high or math.isinf(value):
        limit = f"at least {low:g}" if high == math.inf else f"between {low:.12g} and {high:.12g}"
        raise ValueError(f"{key}={value} is out of range; it must be {limit}")


@dataclass
class TaskConfig:
    """What is classified."""

    name: str = MISSING
    """``graded`` (embedded, the default), a GLUE task (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli), or own."""
    data_dir: str | None = None
    """Folder with a GLUE task's ``train.tsv`` and ``dev.tsv`` (or the GLUE folder above it); null: the hub."""
    max_length: int = 128
    """Longest input in tokens, special tokens included; longer ones are truncated."""
    max_train_samples: int | None = None
    """Train on this many samples, drawn with the seed; null takes all."""
    train_size: int = 8000
    """Sentences in the training split (``graded`` only)."""
    dev_size: int = 2000
    """Sentences in the validation split (``graded`` only)."""
    train: str | None = None
    """Own data: training file (.csv, .tsv, .jsonl, .parquet), or the split's name where ``hub`` is given."""
    dev: Any = None
    """Own data: file to evaluate on, or a share such as 0.1 split off ``train``, stratified and seeded."""
    test: str | None = None
    """Own data: file to predict; it may lack the label."""
    text: Any = None
    """Own data: the text column, or a list of two."""
    label: str | None = None
    """Own data: the label column; decimal numbers make it a regression."""
    labels: list[Any] | None = None
    """Own data: the classes in the order of their ids; null finds them in ``train``."""
    label_range: list[float] | None = None
    """Own data: least and greatest score; makes it a regression. Null takes those of ``train``."""
    metrics: list[str] | None = None
    """Own data: metrics, the first one counts (accuracy, f1, macro_f1, matthews, pearson, spearman); null chooses."""
    hub: str | None = None
    """Own data: a dataset's id on the Hugging Face hub, or a local dataset folder."""
    hub_config: str | None = None
    """Own data: the hub dataset's configuration."""
    quoting: str = "standard"
    """Own data: ``standard`` CSV quotes, or ``none``: a quote is a character like any other, as in GLUE's files."""
    save_as: str | None = None
    """Own data: write these keys to ``conf/task/<save_as>.yaml``, so that ``task=<save_as>`` finds them again."""

    def __post_init__(self) -> None:
        in_range("task.max_length", self.max_length, 4, 65536)
        in_range("task.train_size", self.train_size, 1)
        in_range("task.dev_size", self.dev_size, 1)
        if self.max_train_samples is not None:
            in_range("task.max_train_samples", self.max_train_samples, 1)
        one_of("task.quoting", self.quoting, ("standard", "none"))
        self._check_own() if self.is_own else self._check_built_in()

    @property
    def is_own(self) -> bool:
        """Whether the data is the user's own."""
        return self.name == "own" or self.text is not None or self.label is not None

    @property
    def text_columns(self) -> list[str]:
        """The text column or columns of own data."""
        return list(self.text) if isinstance(self.text, list) else [self.text]

    def _check_built_in(self) -> None:
        for key in (*OWN_PATHS, "labels", "label_range", "metrics", "hub", "hub_config", "save_as"):
            if getattr(self, key) is not None:
                raise ValueError(f"task.{key} describes own data, task={self.name} has its own; add task=own")

    def _check_own(self) -> None:
        for key, example in (("text", "review, or [question,answer]"), ("label", "stars")):
            if getattr(self, key) is None:
                raise ValueError(f"task.{key} is missing; name the column, such as task.{key}={example}")
        columns = self.text_columns
        if not 1 <= len(columns) <= 2 or not all(isinstance(name, str) and name for name in columns):
            raise ValueError(f"task.text={self.text} must name one text column, or two: task.text=[question,answer]")
        if not self.label or self.label in columns or len(set(columns)) < len(columns):
            raise ValueError(f"task.text={self.text} and task.label={self.label} must name different columns")
        for key in OWN_PATHS:
            value = getattr(self, key)
            share = key == "dev" and isinstance(value, int | float) and not isinstance(value, bool)
            if share and not 0 < value < 1:
                raise ValueError(f"task.dev={value} is no share between 0 and 1, such as 0.1, and no file")
            if not share and not isinstance(value, str | None):
                raise ValueError(f"task.{key}={value} is no file")
        if self.labels is not None:
            self.labels = [_label_text(label) for label in self.labels]
            if len(set(self.labels)) < max(2, len(self.labels)):
                raise ValueError(f"task.labels={self.labels} must list two classes or more, each once")
        if self.label_range is not None and (len(self.label_range) != 2 or self.label_range[0] >= self.label_range[1]):
            raise ValueError(f"task.label_range={self.label_range} must be [least, greatest]")
        if self.labels is not None and self.label_range is not None:
            raise ValueError("task.labels (classes) and task.label_range (a score) exclude each other; give one")


OWN_PATHS = ("train", "dev", "test")


def _label_text(label: Any) -> str:
    """A class as files write it: yaml reads 1 and true as no texts."""
    return str(label).lower() if isinstance(label, bool) else str(label)


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
        if self.name == "custom" and self.pretrained is None:
            raise ValueError(
                "encoder.pretrained is missing; encoder=custom needs encoder.pretrained=<hub id or folder>"
            )
        if self.dropout is not None:
            in_range("encoder.dropout", self.dropout, 0, 1)
        if self.attn_implementation is not None:
            one_of("encoder.attn_implementation", self.attn_implementation, ("sdpa", "eager"))
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            in_range(f"encoder.{name}", getattr(self, name), 1)


def _bound(pair: Any) -> list[float]:
    numbers = isinstance(pair, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in pair)
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
        in_range("optim.beta1", self.beta1, 0, 1 - 1e-9)
        in_range("optim.beta2", self.beta2, 0, 1 - 1e-9)
        in_range("optim.eps", self.eps, 1e-16)


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
        for name in ("max_epochs", "accumulate_grad_batches", "log_every_n_steps", "num_nodes"):
            in_range(f"trainer.{name}", getattr(self, name), 1)
        in_range("trainer.max_steps", self.max_steps, -1)
        for name in ("gradient_clip_val", "limit_train_batches", "limit_val_batches"):
            _optional_number(f"trainer.{name}", getattr(self, name))
        one_of("trainer.precision", str(self.precision), PRECISIONS)
        one_of("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
        one_of("trainer.strategy", self.strategy, ("auto", "ddp", "ddp_find_unused_parameters_true"))
        if self.profiler is not None:
            one_of("trainer.profiler", self.profiler, ("simple", "advanced"))
        if self.max_time is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", self.max_time):
            raise ValueError(f"trainer.max_time={self.max_time} must be DD:HH:MM:SS, such as 00:12:00:00")
        self._check_devices()

    def _check_devices(self) -> None:
        devices = self.devices
        number = isinstance(devices, int) and not isinstance(devices, bool) and (devices >= 1 or devices == -1)
        indices = isinstance(devices, list) and devices and all(isinstance(i, int) and i >= 0 for i in devices)
        if not (number or indices or devices == "auto"):
            raise ValueError(f"trainer.devices={devices} must be a number of devices, a list of their indices, or auto")


PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "32", "16", "64", "bf16")


def _optional_number(key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key}={value} must be a number")
    in_range(key, value, 0)


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
        for name, least in (("every_n_steps", 1), ("every_n_minutes", 0.01), ("max_macs_fraction", 0)):
            if getattr(self, name) is not None:
                in_range(f"checkpoint.{name}", getattr(self, name), least)
        if self.every_n_steps is not None and self.every_n_minutes is not None:
            raise ValueError("checkpoint.every_n_steps and checkpoint.every_n_minutes exclude each other; set one")


LOGGERS = ("tensorboard", "wandb", "mlflow")  # each the name of its package, and of the extra that brings it


@dataclass
class LoggerConfig:
    """Where curves, results and figures go beside the files that every run writes."""

    name: str = "none"
    """``none``, ``tensorboard``, ``wandb`` or ``mlflow``."""
    project: str = "sharcs"
    """W&B project, or MLflow experiment."""
    offline: bool = False
    """W&B without a network; ``wandb sync`` sends the run later."""
    tracking_uri: str | None = None
    """MLflow server or store; null takes ``$MLFLOW_TRACKING_URI``, else ``mlruns/`` in the run directory."""

    def __post_init__(self) -> None:
        one_of("logger", self.name, ("none", *LOGGERS))


def check_logger(name: str) -> None:
    """Raise ``ValueError`` unless the package of ``logger=name`` is installed; nothing of it is imported."""
    if name not in LOGGERS:
        return
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # without an origin it is a mere folder, such as W&B's own ./wandb
        raise ValueError(f"logger={name} needs a package that is not installed: pip install 'sharcs-pl[{name}]'")


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
        self._check_encoder()
        self._check_hardness()

    def _check_encoder(self) -> None:
        encoder = self.encoder
        if encoder.pretrained is not None:
            return  # its sizes are in a file that is read later
        if encoder.hidden_size % encoder.num_heads:
            raise ValueError(
                f"encoder.hidden_size={encoder.hidden_size} is not a multiple of num_heads={encoder.num_heads}"
            )
        check_split(self.width.split_layer, encoder.num_layers)
        WidthLadder.parse(self.width.multipliers).check(
            hidden_size=encoder.hidden_size,
            num_heads=encoder.num_heads,
            intermediate_size=encoder.intermediate_size,
            reduction=self.width.reduction,
        )

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
            if not 0 <= low_i <= high_i <= high:
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
        kept["task"].pop("save_as")
        kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in DISPLAY_KEYS}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


DISPLAY_KEYS = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler", "max_time")
