"""The groups of the training loop: optim, trainer, checkpoint, logger."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from typing import Any

from sharcs_pl.config.checks import in_range, number, one_of
from sharcs_pl.config.texts import PATH, TEXT


@dataclass
class OptimConfig:
    """AdamW with a linear warm-up and decay over the completed fraction of all epochs."""

    lr: Any = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Weight decay of tensors with two or more dimensions; biases and norms are never decayed."""
    warmup_fraction: float = 0.06
    """Share of all epochs over which the learning rate rises from 0."""
    beta1: float = 0.9
    """Adam's decay rate of the first moment."""
    beta2: float = 0.999
    """Adam's decay rate of the second moment."""
    eps: float = 1e-8
    """Adam's epsilon."""
    new_lr_scale: float = 1.0
    """Factor on the learning rate of added parts: router, private norms, learned reductions."""
    restart: bool = False
    """Start the learning rate anew, warm-up included, when routing begins."""

    def __post_init__(self) -> None:
        number("optim.lr", self.lr, 0)
        self.lr = float(self.lr) if isinstance(self.lr, int) else self.lr  # 1 and 1.0 are the same run
        in_range("optim.weight_decay", self.weight_decay, 0)
        in_range("optim.warmup_fraction", self.warmup_fraction, 0, 1)
        in_range("optim.new_lr_scale", self.new_lr_scale, 0)
        in_range("optim.beta1", self.beta1, 0, 1 - 1e-9)
        in_range("optim.beta2", self.beta2, 0, 1 - 1e-9)
        in_range("optim.eps", self.eps, 1e-16)


@dataclass
class TrainerConfig:
    """Arguments of ``lightning.Trainer`` under its own names, and what its processes and loaders need."""

    max_epochs: Any = 6
    """Epochs to train; must exceed ``hardness.window``."""
    accelerator: str = "auto"
    """``cpu``, ``gpu``, ``mps`` or ``auto``."""
    devices: Any = 1
    """Number of devices, a list of their indices, or ``auto``."""
    num_nodes: int = 1
    """Machines in a distributed run."""
    strategy: str = "auto"
    """``ddp`` for several processes; ``auto`` chooses it when needed."""
    timeout_minutes: float = 10.0
    """Minutes that a process waits for the others before the run ends in an error."""
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
    """Validation batches (or share of them) after each epoch, for quick checks; the final table uses all."""
    max_steps: int = -1
    """Largest number of optimizer steps; -1 sets no limit."""
    max_time: str | None = None
    """Longest training time as ``DD:HH:MM:SS``; null sets no limit."""
    enable_progress_bar: bool = True
    """Show the progress bar."""
    enable_model_summary: bool = False
    """Print Lightning's table of layers."""
    deterministic: bool = False
    """Use deterministic kernels of torch; CPU runs are deterministic without them."""
    detect_anomaly: bool = False
    """Check for NaN in the backward pass."""
    num_workers: int | None = None
    """Processes that make batches for each training process; null: up to 4 on a GPU, as the cores allow, else 0."""
    profiler: str | None = None
    """Profiler of Lightning, ``simple`` or ``advanced``; null: none."""

    def __post_init__(self) -> None:
        number("trainer.max_epochs", self.max_epochs, 1, whole=True)
        for name in ("accumulate_grad_batches", "log_every_n_steps", "num_nodes"):
            in_range(f"trainer.{name}", getattr(self, name), 1)
        if self.max_steps != -1:
            in_range("trainer.max_steps", self.max_steps, 1)
        in_range("trainer.num_workers", self.num_workers, 0)
        _optional_number("trainer.gradient_clip_val", self.gradient_clip_val)
        for name in ("limit_train_batches", "limit_val_batches"):
            _limit(f"trainer.{name}", getattr(self, name))
        one_of("trainer.precision", str(self.precision), PRECISIONS)
        one_of("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
        if self.strategy.startswith(("fsdp", "deepspeed")):
            raise ValueError(
                f"trainer.strategy={self.strategy} cannot serve: it splits each weight over the processes, and a rung "
                "reads slices of whole weights; use trainer=ddp"
            )
        one_of("trainer.strategy", self.strategy, ("auto", "ddp"))
        in_range("trainer.timeout_minutes", self.timeout_minutes, 0.1, _TEN_YEARS)
        one_of("trainer.profiler", self.profiler, ("simple", "advanced"))
        if self.max_time is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", self.max_time):
            raise ValueError(f"trainer.max_time={self.max_time} must be DD:HH:MM:SS, such as 00:12:00:00")
        if self.max_time is not None and not set(self.max_time) - set("0:"):
            raise ValueError(f"trainer.max_time={self.max_time} leaves no time to train; null sets no limit")
        self._check_devices()

    def _check_devices(self) -> None:
        devices = self.devices
        number = isinstance(devices, int) and not isinstance(devices, bool) and (devices >= 1 or devices == -1)
        indices = isinstance(devices, list) and bool(devices) and all(type(i) is int and i >= 0 for i in devices)
        if not (number or indices or devices == "auto"):
            raise ValueError(f"trainer.devices={devices} must be a number of devices, a list of their indices, or auto")
        if isinstance(devices, list) and len(set(devices)) < len(devices):
            raise ValueError(f"trainer.devices={devices} must name each device once")
        if self.accelerator == "cpu" and (indices or devices == -1):
            raise ValueError(
                f"trainer.devices={devices} chooses GPUs, and trainer.accelerator=cpu has none; give the number of "
                "processes, such as trainer.devices=1"
            )


_TEN_YEARS = 60.0 * 24 * 3650  # minutes
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "32", "16", "64", "bf16")


def _optional_number(key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key}={value} must be a number")
    in_range(key, value, 0)


def _limit(key: str, value: Any) -> None:
    """Raise ``ValueError`` unless a value is a number of batches, or a share of them, above 0."""
    _optional_number(key, value)
    if value is not None and (value == 0 or (value > 1 and value % 1)):
        raise ValueError(f"{key}={value} must be a number of batches, 1 or more, or a share of them above 0, up to 1")


@dataclass
class CheckpointConfig:
    """The files of a run under ``checkpoints/``."""

    every_n_epochs: int = 1
    """Write ``last.ckpt`` at the end of every n-th epoch."""
    every_n_steps: int | None = None
    """Also write ``last.ckpt`` after every n steps."""
    every_n_minutes: float | None = None
    """Also write ``last.ckpt`` after every n minutes."""
    save_last: bool = True
    """Keep ``last.ckpt``, from which a run continues, and its predecessor ``last.prev.ckpt``."""
    save_best: bool = True
    """Keep ``best.ckpt``, the best epoch from the first routed one on."""
    best_by: str = "routed"
    """``routed``: the best epoch is that of the best metric as routed; ``area``: of the largest area under the curve of
    the metric against cost, over all rules and thresholds."""
    patience: int | None = None
    """Epochs, from the first routed one on, that may pass without a better one before training ends; null: any."""
    max_macs_fraction: float | None = None
    """Highest cost, as a fraction of dense, of a routed epoch that may become ``best.ckpt``; null: any. Methods without
    a router ignore it."""

    def __post_init__(self) -> None:
        in_range("checkpoint.every_n_epochs", self.every_n_epochs, 1)
        one_of("checkpoint.best_by", self.best_by, ("routed", "area"))
        for name, least in (("every_n_steps", 1), ("every_n_minutes", 0.01), ("max_macs_fraction", 0), ("patience", 1)):
            in_range(f"checkpoint.{name}", getattr(self, name), least)
        if self.every_n_steps is not None and self.every_n_minutes is not None:
            raise ValueError("checkpoint.every_n_steps and checkpoint.every_n_minutes exclude each other; set one")
        if self.patience is not None and not self.save_best:
            raise ValueError(
                "checkpoint.patience waits for a better epoch, and none is kept; add checkpoint.save_best=true"
            )


LOGGERS = ("tensorboard", "wandb", "mlflow")  # names of the packages, and of the extras that install them


@dataclass
class LoggerConfig:
    """The logger that receives curves, results and figures in addition to the files of every run."""

    name: str = "none"
    """``none``, ``tensorboard``, ``wandb`` or ``mlflow``."""
    project: str = field(default="sharcs", metadata=TEXT)
    """Project of W&B, or experiment of MLflow."""
    offline: bool = False
    """Log to W&B without a network; ``wandb sync`` sends the run later."""
    tracking_uri: str | None = field(default=None, metadata=PATH)
    """Server or store of MLflow; null takes ``$MLFLOW_TRACKING_URI``, else ``mlruns/`` in the run directory."""

    def __post_init__(self) -> None:
        one_of("logger", self.name, ("none", *LOGGERS))


def check_logger(name: str) -> None:
    """Raise ``ValueError`` unless the package of ``logger=name`` is installed. The package is not imported."""
    if name not in LOGGERS:
        return
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # without an origin it is a plain folder, such as W&B's ./wandb
        raise ValueError(f"logger={name} needs a package that is not installed: pip install 'sharcs-pl[{name}]'")
