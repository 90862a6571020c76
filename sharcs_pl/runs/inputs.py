"""The inputs of a run, read before anything heavy is imported: task, texts and encoder files.

The module loads no torch, so that a mistake in the data or a folder is reported within a second.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sharcs_pl.config import RunConfig, TaskConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.files import previous
from sharcs_pl.core.hardness import SCORES
from sharcs_pl.data.few import few_rows_note
from sharcs_pl.data.files import check_file
from sharcs_pl.data.own import OwnSource, load_own
from sharcs_pl.data.shares import take_share
from sharcs_pl.data.synthetic import graded_examples
from sharcs_pl.data.tasks import GRADED, Examples, TaskSpec, get_task, load_examples, subset_examples
from sharcs_pl.models.encoder_sizes import check_norm_after_cut, check_skimmable
from sharcs_pl.models.folder import check_zip
from sharcs_pl.models.locate import EncoderFiles, locate
from sharcs_pl.models.teachers import check_teacher

# Files of a run, in copies of the weights: last.ckpt, the one before it, best.ckpt and first_stage.ckpt hold them with
# two moments of Adam, model/ once; a checkpoint is written beside its predecessor before it replaces it.
_COPIES = {"save_last": 6, "save_best": 3, "rewind": 3}
_COPIES_ALWAYS = 1 + 3
_OTHER = "another checkpoint with ckpt_path=<file> hydra.run.dir=<another folder>"


@dataclass(frozen=True)
class TrainingInputs:
    """The task's row, its splits in memory, the encoder's files (None for an encoder from scratch), and the checkpoint
    to go on from, if any."""

    task: TaskSpec
    examples: dict[str, Examples]
    encoder: EncoderFiles | None
    checkpoint: Path | None = None


def read_inputs(config: RunConfig, run_dir: Path, resumes: bool = False) -> TrainingInputs:
    """Read and check all that a training run starts from. Raise ``ValueError`` naming the key, file or line at fault.

    With ``resumes``, ``run_dir`` holds this run, which is to be gone on with.
    """
    check_reader(config)
    encoder = locate(config.encoder.pretrained) if config.encoder.pretrained else None
    if encoder is not None:
        check_sizes(config, encoder)
        check_disk(config, encoder, run_dir)
    checkpoint = find_checkpoint(config, run_dir, resumes)
    if isinstance(config.task.calibration, str) and config.task.hub is None:
        check_file("task.calibration", config.task.calibration)  # it is read by sharcs calibrate, long after this run
    splits = ("train", None, *(("calibration",) if config.chooses_points else ()))
    task, examples = read_task(config.task, splits, config.seed)
    check_limits(config, examples, task.validation)
    classes = 2 if task.multi_label else task.num_labels  # a label of its own is there or not
    config.method.check_classes(task.name, classes)
    config.router.check_labels(task.num_labels, len(config.widths))
    if config.method.teacher is not None:
        check_teacher(config.method.teacher, task.labels, task.multi_label)
    if not task.kind.has_classes and not SCORES[config.hardness.score].for_regression:
        score = config.hardness.score
        raise ValueError(f"hardness.score={score} needs classes, task={task.name} is a regression; use confidence")
    if task.kind.has_classes:
        config.check_reachable(classes)
    if config.method.routed and not config.easy_first:
        warnings.warn(
            f"width.bounds={config.width.bounds} gives the narrowest width the hardest samples by "
            f"hardness.score={config.hardness.score}",
            DataWarning,
            stacklevel=2,
        )
    if config.task.is_custom:
        share = config.task.dev if isinstance(config.task.dev, float) else None
        note = few_rows_note(examples["train"], examples["validation"], task, share)
        if note:
            warnings.warn(note, DataWarning, stacklevel=2)
    return TrainingInputs(task, examples, encoder, checkpoint)


def check_limits(config: RunConfig, examples: dict[str, Examples], validation: Sequence[str]) -> None:
    """Raise ``ValueError`` where a limit given as a share of the batches leaves none in the shortest possible epoch."""
    trainer, devices = config.trainer, config.trainer.devices
    known = len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) and devices > 0 else 1
    world = known * trainer.num_nodes
    per_step = config.batch_size * len(config.width.multipliers)
    least = {"limit_train_batches": ("steps", math.ceil(len(examples["train"]) / per_step))}
    validated = [len(examples[split]) for split in validation]
    batches = math.ceil(min(validated) / config.eval_batch_size) // world
    least["limit_val_batches"] = ("validation batches", max(batches, 1))
    for key, (what, number) in least.items():
        share = getattr(trainer, key)
        if isinstance(share, float) and share < 1 and share * number < 1:
            raise ValueError(f"trainer.{key}={share} of {number:,} {what} is none; give a larger share, or 1")


def read_task(config: TaskConfig, splits: Sequence[str | None], seed: int) -> tuple[TaskSpec, dict[str, Examples]]:
    """Read the task and its splits; None among ``splits`` stands for all that evaluate the task. ``seed`` draws
    ``task.max_train_samples``."""
    if config.is_custom:
        wanted = ["validation" if split is None else split for split in splits]
        task, examples = load_own(own_source(config), wanted, config.split_seed)
        return task, _limited(config, examples, seed)
    task = get_task(config.name)
    wanted = [name for split in splits for name in (task.validation if split is None else (split,))]
    return task, _limited(config, {split: _built_in(config, task, split) for split in wanted}, seed)


def _built_in(config: TaskConfig, task: TaskSpec, split: str) -> Examples:
    if split == "calibration" or (split == "train" and config.calibration is not None):
        assert config.calibration is not None, "read only where the key is set"
        whole = _built_in(replace(config, calibration=None), task, "train")
        rest, kept = take_share(whole, "calibration", config.calibration, config.split_seed)
        return kept if split == "calibration" else rest
    if task.name == GRADED.name:
        return graded_examples(
            split, size=config.train_size if split == "train" else config.dev_size, seed=config.split_seed
        )
    return load_examples(task, split, config.data_dir)


def _limited(config: TaskConfig, examples: dict[str, Examples], seed: int) -> dict[str, Examples]:
    if config.max_train_samples and "train" in examples:
        examples["train"] = subset_examples(examples["train"], config.max_train_samples, seed)
    return examples


def own_source(config: TaskConfig) -> OwnSource:
    """Return the keys of ``task`` that describe a user's own data."""
    values: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(OwnSource)}
    values |= {key: tuple(value) or None for key, value in values.items() if isinstance(value, list)}
    values["text"] = tuple(config.text_columns)
    return OwnSource(**values)


def check_reader(config: RunConfig) -> None:
    """Raise ``ValueError`` unless the task is known; an encoder from scratch knows the embedded task's words only."""
    if not config.task.is_custom:
        get_task(config.task.name)
    if config.encoder.pretrained is None and config.task.name != GRADED.name:
        raise ValueError(
            f"encoder={config.encoder.name} starts from scratch and reads only task={GRADED.name}, not "
            f"task={config.task.name}; choose encoder=minilm, bert, roberta, … or encoder.pretrained=<folder>"
        )


def check_sizes(config: RunConfig, encoder: EncoderFiles) -> None:
    """Raise ``ValueError`` unless the split layer, the widths and the longest input fit the encoder."""
    sizes = encoder.sizes
    config.check_fits(
        num_layers=sizes.layers, hidden_size=sizes.hidden, num_heads=sizes.heads, intermediate_size=sizes.ffn
    )
    check_norm_after_cut(config.width.top_rung_norm, sizes.pre_norm)
    if config.method.skim_weight is not None:  # its method removes tokens
        check_skimmable(sizes.model_type)
    if encoder.ladder is not None and config.method.widths == "all":
        check_ladder(config, encoder.ladder)
    if config.task.max_length > sizes.max_tokens:
        limit = f"this encoder reads at most {sizes.max_tokens} tokens"
        raise ValueError(f"task.max_length={config.task.max_length}: {limit}")


def check_ladder(config: RunConfig, ladder: dict[str, Any]) -> None:
    """Raise ``ValueError`` where a model of several widths would go on with others, since each has norms of its own."""
    wanted = {
        "width.multipliers": (config.width.multipliers, ladder["widths"]),
        "width.split_layer": (config.width.split_layer, ladder["split_layer"]),
        "width.reduction": (config.width.reduction, ladder["reduction"]),
        "width.top_rung_norm": (config.width.top_rung_norm, ladder.get("top_rung_norm", False)),
        "method.cut": (config.method.cut or "full", ladder.get("cut", "full")),
    }
    for key, (asked, found) in wanted.items():
        if asked != found:
            shown = f"[{','.join(found)}]" if isinstance(found, list) else found
            raise ValueError(f"encoder.pretrained={config.encoder.pretrained} has another ladder: give {key}={shown}")


def check_disk(config: RunConfig, encoder: EncoderFiles, run_dir: Path) -> None:
    """Raise ``ValueError`` for a run whose checkpoints will not fit on the disk."""
    kept = [name for name in ("save_last", "save_best") if getattr(config.checkpoint, name)]
    kept += ["rewind"] if config.method.routed and config.hardness.rewind else []
    copies = _COPIES_ALWAYS + sum(_COPIES[name] for name in kept)
    need, free = copies * encoder.weight_bytes, shutil.disk_usage(existing_parent(run_dir)).free
    if free < need:
        raise ValueError(
            f"hydra.run.dir={run_dir}: {free / 1e6:,.0f} MB are free there, the checkpoints and the model take about "
            f"{need / 1e6:,.0f} MB; make room or choose another folder"
        )


def existing_parent(path: Path) -> Path:
    """Return the nearest existing folder above ``path``."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def find_checkpoint(config: RunConfig, run_dir: Path, resumes: bool) -> Path | None:
    """Return the checkpoint to go on from: the run's own last one if it exists, or the one named; None to begin afresh.

    Raise ``ValueError`` when it is damaged; for a run's own only when the one before it is damaged too.
    """
    own = last_whole(run_dir / "checkpoints" / "last.ckpt") if resumes else None
    if own is not None or config.ckpt_path in (None, "last"):
        return own
    named = Path(config.ckpt_path).expanduser()
    check_zip(named, "go on from another checkpoint, or begin again with overwrite=true")
    return named


def last_whole(last: Path) -> Path | None:
    """Return ``last``, or with a warning the one before it when ``last`` is damaged or lost; None without either."""
    faults = []
    for path in (last, previous(last)):
        if not path.exists():
            continue
        try:
            check_zip(path, f"so is the one before it: begin again with overwrite=true, or go on from {_OTHER}")
        except ValueError as error:
            faults.append(error)
            continue
        if path != last:
            why = "is damaged" if faults else "was lost"
            warnings.warn(f"{last} {why}: going on from the one before it, {path.name}", DataWarning, stacklevel=2)
        return path
    if faults:
        raise faults[0]
    return None
