"""From a checked config to objects: the one place that chooses variants, and the one reader of the environment."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from sharcs_pl.config import RunConfig
from sharcs_pl.core.plan import PlanConfig, check_world
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.data.synthetic import GRADED, graded_examples, word_tokenizer
from sharcs_pl.data.table import TokenTable, tokenize
from sharcs_pl.data.tasks import Examples, TaskSpec, get_task, load_examples, subset_examples
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.training.callbacks import (
    BestCheckpoint,
    CurveFiles,
    EpochFractionSchedule,
    HardnessHistory,
    SharcsProgressBar,
)
from sharcs_pl.training.module import OptimizerSettings, SharcsModule
from sharcs_pl.training.objective import ObjectiveConfig


@dataclass(frozen=True)
class Method:
    """How a method fills the harness: the rungs the model has, and whether samples are routed by hardness."""

    widths: Callable[[RunConfig], list[Any]]
    routed: bool


METHODS = {
    "sharcs": Method(widths=lambda config: config.width.multipliers, routed=True),
    "dense": Method(widths=lambda config: [1], routed=False),
}


@dataclass(frozen=True)
class Run:
    """Everything a training run is made of."""

    task: TaskSpec
    tokenizer: PreTrainedTokenizerFast
    module: SharcsModule
    datamodule: SharcsDataModule
    trainer: L.Trainer


def get_method(name: str) -> Method:
    """The method's row; an unknown name raises ``ValueError`` with the known ones."""
    if name not in METHODS:
        raise ValueError(f"method={name} is unknown; choose one of: {', '.join(METHODS)}")
    return METHODS[name]


def build_run(config: RunConfig, run_dir: Path) -> Run:
    """Load data and model and wire them to a trainer; nothing is written but the token cache."""
    method = get_method(config.method.name)
    check_world(_world_size(config), len(config.width.multipliers))
    L.seed_everything(config.seed, verbose=False)
    task = build_task(config)
    tokenizer = build_tokenizer(config)
    datamodule = build_datamodule(config, method, task, tokenizer)
    module = build_module(config, method, task, tokenizer)
    trainer = build_trainer(config, method, module, run_dir)
    return Run(task, tokenizer, module, datamodule, trainer)


def _world_size(config: RunConfig) -> int:
    devices = config.trainer.devices
    per_node = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    return per_node * config.trainer.num_nodes


def build_task(config: RunConfig) -> TaskSpec:
    """The task's row: the embedded one or one of GLUE."""
    task = GRADED if config.task.name == GRADED.name else get_task(config.task.name)
    if task.labels is None and config.hardness.score == "entropy":
        raise ValueError(f"hardness.score=entropy needs classes, task={task.name} is a regression; use confidence")
    return task


def build_tokenizer(config: RunConfig) -> PreTrainedTokenizerFast:
    """The checkpoint's own tokenizer, or that of the embedded task for an encoder from scratch."""
    if config.encoder.pretrained is None:
        if config.task.name != GRADED.name:
            raise ValueError(
                f"encoder={config.encoder.name} starts from scratch and reads only task={GRADED.name}, not "
                f"task={config.task.name}; choose encoder=minilm, bert, roberta, … or encoder.pretrained=<folder>"
            )
        return word_tokenizer()
    return AutoTokenizer.from_pretrained(resolve_pretrained(config.encoder.pretrained))


def resolve_pretrained(name: str) -> str:
    """``pkg:<package>/<folder>`` as the folder inside that installed package; any other name as it is."""
    if not name.startswith("pkg:"):
        return name
    package, _, folder = name.removeprefix("pkg:").partition("/")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        distribution = package.replace("_", "-")
        raise ValueError(f"encoder.pretrained={name}: install the package first: pip install {distribution}")
    return str(Path(found.origin).parent / folder)


def build_examples(config: RunConfig, task: TaskSpec, split: str) -> Examples:
    """One split's texts and labels."""
    if task.name == GRADED.name:
        size = config.task.train_size if split == "train" else config.task.dev_size
        return graded_examples(split, size=size, seed=config.seed)
    examples = load_examples(task, split, config.task.data_dir)
    limit = config.task.max_train_samples
    return subset_examples(examples, limit, config.seed) if limit and split == "train" else examples


def build_datamodule(
    config: RunConfig, method: Method, task: TaskSpec, tokenizer: PreTrainedTokenizerFast
) -> SharcsDataModule:
    """Tokenised splits and the way their epochs are planned."""

    def table(split: str) -> TokenTable:
        return tokenize(build_examples(config, task, split), tokenizer, config.task.max_length, cache_dir())

    plan = PlanConfig(
        batch_size=config.batch_size,
        num_rungs=len(method.widths(config)),
        batches_per_step=len(config.width.multipliers),
        fill=config.hardness.fill,
        repeat_cap=config.hardness.repeat_cap,
    )
    return SharcsDataModule(
        train=table("train"),
        validation={split: table(split) for split in task.validation},
        plan=plan,
        bounds=[(low, high) for low, high in config.width.bounds] if method.routed else None,
        window=config.hardness.window,
        warmup_epochs=config.first_routed_epoch,
        seed=config.seed,
        eval_batch_size=config.eval_batch_size,
        steps_per_epoch=matched_steps(config.method.match) if config.method.match else (),
    )


def matched_steps(run: str) -> list[int]:
    """Steps of each epoch of another run, from its ``plan.csv``."""
    path = Path(run) / "plan.csv"
    if not path.exists():
        raise ValueError(f"method.match={run}: {path} does not exist; give the run directory of a sharcs run")
    with path.open(newline="") as file:
        return [int(row["steps"]) for row in csv.DictReader(file)]


def cache_dir() -> Path:
    """Where tokenised data is kept: ``$SHARCS_CACHE``, else ``sharcs_pl`` under ``$XDG_CACHE_HOME`` or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SHARCS_CACHE") or Path(base) / "sharcs_pl")


def build_model(
    config: RunConfig, method: Method, task: TaskSpec, tokenizer: PreTrainedTokenizerFast
) -> SharcsForSequenceClassification:
    """Width surgery on the chosen encoder."""
    source = config.encoder.pretrained
    model = SharcsForSequenceClassification.from_encoder(
        _tiny_bert(config, tokenizer) if source is None else resolve_pretrained(source),
        widths=method.widths(config),
        split_layer=config.width.split_layer,
        num_labels=task.num_labels,
        reduction=config.width.reduction,
        norm_init=config.width.norm_init,
        top_rung_norm=config.width.top_rung_norm,
        router_hidden_size=config.router.hidden_size,
        router_threshold=config.router.threshold,
        dropout=config.encoder.dropout,
    )
    if config.encoder.attn_implementation:
        model.encoder.set_attn_implementation(config.encoder.attn_implementation)
    if task.labels is not None:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    return model


def _tiny_bert(config: RunConfig, tokenizer: PreTrainedTokenizerFast) -> BertForSequenceClassification:
    encoder = config.encoder
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=encoder.hidden_size,
            num_hidden_layers=encoder.num_layers,
            num_attention_heads=encoder.num_heads,
            intermediate_size=encoder.intermediate_size,
            max_position_embeddings=config.task.max_length,
            pad_token_id=tokenizer.vocab[str(tokenizer.pad_token)],
        )
    )


def build_module(config: RunConfig, method: Method, task: TaskSpec, tokenizer: PreTrainedTokenizerFast) -> SharcsModule:
    """The LightningModule around the model."""
    weights = config.width.loss_weights
    objective = ObjectiveConfig(
        score=config.hardness.score,
        label_range=task.label_range[1] - task.label_range[0] if task.label_range else None,
        router_weight=config.router.loss_weight,
        warmup_loss=config.router.warmup_loss,
        rung_weights=tuple(weights) if weights and method.routed else None,
        weight_by_bucket=config.hardness.weight_by_bucket,
        distill_weight=config.distill.weight if config.distill.name == "top" and method.routed else 0.0,
        temperature=config.distill.temperature,
    )
    optim = config.optim
    optimizer = OptimizerSettings(
        optim.lr, optim.weight_decay, (optim.beta1, optim.beta2), optim.eps, optim.new_lr_scale
    )
    return SharcsModule(build_model(config, method, task, tokenizer), task, objective, optimizer, config.seed)


def build_trainer(config: RunConfig, method: Method, module: SharcsModule, run_dir: Path) -> L.Trainer:
    """Lightning's trainer with the project's callbacks."""
    arguments = asdict(config.trainer)
    return L.Trainer(
        **arguments,
        default_root_dir=run_dir,
        logger=build_logger(config, run_dir),
        callbacks=build_callbacks(config, method, module, run_dir),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        enable_autolog_hparams=False,
    )


def build_callbacks(config: RunConfig, method: Method, module: SharcsModule, run_dir: Path) -> list[Callback]:
    """History first, checkpoints last: a checkpoint of an epoch's end must hold its closed history."""
    callbacks: list[Callback] = [
        EpochFractionSchedule(config.optim.warmup_fraction),
        CurveFiles(run_dir, module.model.ladder.labels()),
        HardnessHistory(run_dir if method.routed else None),
        *_last_checkpoints(config, run_dir / "checkpoints"),
    ]
    if config.trainer.enable_progress_bar:
        callbacks.append(SharcsProgressBar())
    if config.checkpoint.save_best:
        budget = config.checkpoint.max_macs_fraction if method.routed else None
        callbacks.append(BestCheckpoint(run_dir / "checkpoints", config.first_routed_epoch, budget))
    return callbacks


def _last_checkpoints(config: RunConfig, folder: Path) -> list[Callback]:
    keep = config.checkpoint
    if not keep.save_last:
        return []
    common: dict[str, Any] = {"dirpath": folder, "filename": "last", "enable_version_counter": False}
    found: list[Callback] = [
        ModelCheckpoint(**common, every_n_epochs=keep.every_n_epochs, save_on_train_epoch_end=True)
    ]
    if keep.every_n_steps:
        found.append(ModelCheckpoint(**common, every_n_train_steps=keep.every_n_steps))
    if keep.every_n_minutes:
        interval = timedelta(minutes=keep.every_n_minutes)
        found.append(ModelCheckpoint(**common, train_time_interval=interval))
    return found


def build_logger(config: RunConfig, run_dir: Path) -> Logger | bool:
    """The chosen logger; ``metrics.csv`` is written in any case."""
    if config.logger.name == "tensorboard":
        return TensorBoardLogger(run_dir, name="", version="tensorboard")
    if config.logger.name == "wandb":
        return WandbLogger(project=config.logger.project, save_dir=run_dir, offline=config.logger.offline)
    return False
