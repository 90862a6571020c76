"""Construction of a run's objects from a config; only this module chooses variants and reads the environment."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from sharcs_pl.config import RunConfig, check_logger
from sharcs_pl.core.plan import PlanConfig, check_world
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.data.table import TokenTable, tokenize
from sharcs_pl.data.tasks import Examples, TaskSpec
from sharcs_pl.inference.record import make_record, travelling
from sharcs_pl.launch.slurm import slurm_job
from sharcs_pl.models.pretrained import align
from sharcs_pl.models.vocabulary import check_tokenizer
from sharcs_pl.pipeline.devices import check_devices, world_size
from sharcs_pl.pipeline.methods import MethodParts, get_method
from sharcs_pl.pipeline.reordering_in_place import build_reordering
from sharcs_pl.runs.inputs import TrainingInputs
from sharcs_pl.training.callbacks import (
    CurveFiles,
    EpochFractionSchedule,
    HardnessHistory,
    RankAgreement,
    progress_bar,
)
from sharcs_pl.training.checkpoints import BestCheckpoint, DurableCheckpointIO, LastCheckpoint
from sharcs_pl.training.divergence import StopAtDivergence
from sharcs_pl.training.logging import LoggerSettings, RunLogger
from sharcs_pl.training.module import OptimizerSettings, SharcsModule
from sharcs_pl.training.objective import ObjectiveConfig
from sharcs_pl.training.rules import TrainingRule
from sharcs_pl.training.stages import FrozenTeacher, RewindToBest


@dataclass(frozen=True)
class Run:
    """The objects that a training run is made of."""

    inputs: TrainingInputs
    tokenizer: PreTrainedTokenizerFast
    module: SharcsModule
    datamodule: SharcsDataModule
    trainer: L.Trainer


def build_run(
    config: RunConfig,
    inputs: TrainingInputs,
    run_dir: Path,
    extra_callbacks: Sequence[Callback] = (),
    more: Mapping[str, Any] | None = None,
) -> Run:
    """Tokenise the texts, load the model and wire both to a trainer; nothing is written but the token cache.

    ``more`` holds arguments of the trainer that the config does not have.
    """
    method = get_method(config.method.name)
    check_devices(config)
    if config.method.routed and not config.every_rung:
        check_world(world_size(config), len(config.width.multipliers))
    L.seed_everything(config.seed, verbose=False)
    tokenizer = build_tokenizer(inputs)
    datamodule = build_datamodule(config, inputs, tokenizer)
    model = build_model(config, method, inputs, tokenizer)
    module = build_module(config, inputs.task, model, method.rule(config, model))
    callbacks = [*build_callbacks(config, module, run_dir, datamodule), *extra_callbacks]
    trainer = build_trainer(config, run_dir, callbacks, more)
    return Run(inputs, tokenizer, module, datamodule, trainer)


def build_tokenizer(inputs: TrainingInputs) -> PreTrainedTokenizerFast:
    """Load the checkpoint's own tokenizer, or the embedded task's for an encoder from scratch."""
    if inputs.encoder is None:
        return word_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(inputs.encoder.source)
    check_tokenizer(f"encoder.pretrained={inputs.encoder.source}", tokenizer, inputs.encoder.embeddings)
    return tokenizer


def build_table(config: RunConfig, examples: Examples, tokenizer: PreTrainedTokenizerFast) -> TokenTable:
    """Return a split's tokens, from the cache where an earlier run left them."""
    return tokenize(examples, tokenizer, config.task.max_length, cache_dir())


def build_datamodule(config: RunConfig, inputs: TrainingInputs, tokenizer: PreTrainedTokenizerFast) -> SharcsDataModule:
    """Build the datamodule: tokenised splits and the way their epochs are planned."""
    tables = {split: build_table(config, examples, tokenizer) for split, examples in inputs.examples.items()}
    plan = PlanConfig(
        batch_size=config.batch_size,
        num_rungs=len(config.width.multipliers) if config.method.routed else 1,
        batches_per_step=len(config.width.multipliers),
        fill=config.hardness.fill,
        repeat_cap=config.hardness.repeat_cap,
        every_rung=config.every_rung,
    )
    return SharcsDataModule(
        train=tables["train"],
        validation={split: tables[split] for split in inputs.task.validation},
        plan=plan,
        bounds=[(low, high) for low, high in config.width.bounds or ()] if config.method.routed else None,
        window=config.hardness.window,
        warmup_epochs=config.first_routed_epoch,
        seed=config.seed,
        eval_batch_size=config.eval_batch_size,
        steps_per_epoch=matched_steps(config.method.match) if config.method.match else (),
        num_workers=config.trainer.num_workers,
    )


def matched_steps(run: str) -> list[int]:
    """Return the steps of each epoch of another run, from its ``plan.csv``."""
    path = Path(run).expanduser() / "plan.csv"
    if not path.exists():
        raise ValueError(f"method.match={run}: {path} does not exist; give the run directory of a sharcs run")
    with path.open(newline="") as file:
        return [int(row["steps"]) for row in csv.DictReader(file)]


def cache_dir() -> Path:
    """Return the folder of tokenised data: ``$SHARCS_CACHE``, else ``sharcs_pl`` in ``$XDG_CACHE_HOME`` or ~/.cache."""
    chosen = os.environ.get("SHARCS_CACHE")
    if chosen:  # first: some containers have no home
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sharcs_pl"


def build_model(
    config: RunConfig, method: MethodParts, inputs: TrainingInputs, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Apply the method's surgery to the chosen encoder."""
    task = inputs.task
    source = _tiny_bert(config, tokenizer) if inputs.encoder is None else inputs.encoder.source
    model = method.model(config, source, task.num_labels)
    model.config.problem_type = task.kind.problem_type
    set_attention(config, model)
    align(model)  # where a reloaded model's weights lie too: both round alike
    if task.labels is not None:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    return model


def set_attention(config: RunConfig, model: Any) -> None:
    """Set the attention kernel the config asks for."""
    if config.encoder.attn_implementation:
        model.encoder.set_attn_implementation(config.encoder.attn_implementation)


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


def build_module(config: RunConfig, task: TaskSpec, model: Any, rule: TrainingRule | None = None) -> SharcsModule:
    """Build the LightningModule around the model; ``rule`` says how it is trained, None where it is evaluated only."""
    weights = config.width.loss_weights if config.method.widths == "all" else None
    learns = config.method.teacher or (config.distill.name != "none" and config.method.widths == "all")
    objective = ObjectiveConfig(
        score=config.hardness.score,
        label_range=task.label_range[1] - task.label_range[0] if task.label_range else None,
        router_weight=config.router.loss_weight,
        warmup_loss=config.router.warmup_loss,
        rung_weights=tuple(weights) if weights else None,
        weight_by_bucket=config.hardness.weight_by_bucket,
        distill_weight=config.distill.weight if learns else 0.0,
        temperature=config.distill.temperature,
        skim_weight=config.method.skim_weight or 0.0,
    )
    optim = config.optim
    optimizer = OptimizerSettings(
        optim.lr, optim.weight_decay, (optim.beta1, optim.beta2), optim.eps, optim.new_lr_scale
    )
    if str(config.trainer.precision).startswith("64"):
        model.double()  # Lightning does so after it has loaded a checkpoint, which would round its weights
    record, area = travelling(make_record(config, task)), rule is not None and config.checkpoint.best_by == "area"
    return SharcsModule(model, task, objective, optimizer, config.seed, record, rule, area)


def build_trainer(
    config: RunConfig, run_dir: Path, callbacks: list[Callback], more: Mapping[str, Any] | None = None
) -> L.Trainer:
    """Build Lightning's trainer with the given callbacks; ``more`` holds arguments that the config does not have."""
    arguments = asdict(config.trainer)
    timeout = timedelta(minutes=arguments.pop("timeout_minutes"))
    del arguments["num_workers"]  # of the loaders
    if world_size(config) > 1:
        # Buffers are constants; sent around, they would make ranks wait that have fewer validation batches.
        arguments["strategy"] = DDPStrategy(timeout=timeout, gradient_as_bucket_view=True, broadcast_buffers=False)
    return L.Trainer(
        **(more or {}),
        **arguments,
        default_root_dir=run_dir,
        logger=False,  # opened by its callback, once the run directory is this run's own
        callbacks=callbacks,
        plugins=build_plugins(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        enable_autolog_hparams=False,
    )


def build_callbacks(
    config: RunConfig, module: SharcsModule, run_dir: Path, datamodule: SharcsDataModule
) -> list[Callback]:
    """Return the callbacks in their order. A diverged run is stopped first; then come history, the reordering, the best
    checkpoint and the last, since the one of an epoch's end must hold all of it."""
    callbacks: list[Callback] = [
        StopAtDivergence(),
        RankAgreement(config.digest()),
        EpochFractionSchedule(config.optim.warmup_fraction, config.first_routed_epoch if config.optim.restart else 0),
        CurveFiles(run_dir, config.width.multipliers if config.method.routed else ["1"]),
        HardnessHistory(run_dir if config.method.routed else None),
        *build_logger(config, run_dir, module.record),
    ]
    if config.trainer.enable_progress_bar:
        callbacks.append(progress_bar())
    keep, folder = config.checkpoint, run_dir / "checkpoints"
    callbacks += build_stages(config, module, run_dir, datamodule)
    if keep.save_best:
        budget = keep.max_macs_fraction if config.method.routed else None
        first = max(config.first_routed_epoch, config.stage_epochs)
        callbacks.append(BestCheckpoint(folder, first, budget, f"val/{keep.best_by}", keep.patience))
    if keep.save_last:
        callbacks.append(LastCheckpoint(folder, keep.every_n_epochs, keep.every_n_steps, keep.every_n_minutes))
    return callbacks


def build_stages(
    config: RunConfig, module: SharcsModule, run_dir: Path, datamodule: SharcsDataModule
) -> list[Callback]:
    """Return the callbacks that act between the epochs at full width and those of all widths, in their order."""
    first, callbacks = config.first_routed_epoch, list[Callback]()
    if not config.method.routed:
        return callbacks
    if config.hardness.rewind:
        full = module.model.ladder.labels()[-1]
        callbacks.append(RewindToBest(run_dir / "checkpoints", first, f"val/rung_{full}"))
    if config.width.reorder_after is not None:
        callbacks.append(build_reordering(config.width.reorder_after, module.model, datamodule, config.seed, run_dir))
    if config.distill.name == "frozen":
        callbacks.append(FrozenTeacher(first, datamodule.train_table, config.eval_batch_size))
    return callbacks


def build_plugins() -> list[Any]:
    """Return durable checkpoints, and under SLURM its environment without Lightning's requeueing, which hangs when a
    process is slower than another. ``GracefulStop`` has the job requeued."""
    plugins: list[Any] = [DurableCheckpointIO()]
    # As Lightning decides it; its own detect() also advises to use srun wherever that is installed.
    started_by_slurm = slurm_job(os.environ) is not None and "SLURM_NTASKS" in os.environ
    if started_by_slurm and not TorchElasticEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def build_logger(config: RunConfig, run_dir: Path, record: dict[str, Any] | None) -> list[Callback]:
    """Return the chosen logger, if any; ``metrics.csv`` is written in any case."""
    if config.logger.name == "none":
        return []
    check_logger(config.logger.name)
    settings = LoggerSettings(**asdict(config.logger))
    # From the environment only here: an address may hold a password, and the config is kept in many places.
    settings = replace(settings, tracking_uri=settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))
    return [RunLogger(settings, run_dir, record or {})]
