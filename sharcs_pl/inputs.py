"""What a run reads before anything heavy is imported: its task, its texts, and whether its encoder can serve.

Loads no torch, so that a mistake in the data or a folder answers within a second.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sharcs_pl.config import RunConfig, TaskConfig
from sharcs_pl.data.own import OwnSource, load_own
from sharcs_pl.data.synthetic import graded_examples
from sharcs_pl.data.tasks import GRADED, Examples, TaskSpec, get_task, load_examples, subset_examples
from sharcs_pl.models.architectures import check_norm_after_cut
from sharcs_pl.models.folder import check_zip
from sharcs_pl.models.locate import EncoderFiles, locate

# Files of a run, in copies of the weights: last.ckpt and best.ckpt hold them with two moments of Adam, model/ once;
# a checkpoint is written beside its predecessor before it replaces it.
_COPIES = {"save_last": 3, "save_best": 3}
_COPIES_ALWAYS = 1 + 3


@dataclass(frozen=True)
class Inputs:
    """The task's row, its splits in memory, and the encoder's files (None for an encoder from scratch)."""

    task: TaskSpec
    examples: dict[str, Examples]
    encoder: EncoderFiles | None


def read_inputs(config: RunConfig, run_dir: Path) -> Inputs:
    """Read and check all that a training run starts from; ``ValueError`` names the key, file or line at fault."""
    check_reader(config)
    encoder = locate(config.encoder.pretrained) if config.encoder.pretrained else None
    if encoder is not None:
        check_sizes(config, encoder)
        check_disk(config, encoder, run_dir)
    check_checkpoint(config, run_dir)
    task, examples = read_task(config.task, ("train", None), config.seed)
    if task.labels is None and config.hardness.score == "entropy":
        raise ValueError(f"hardness.score=entropy needs classes, task={task.name} is a regression; use confidence")
    return Inputs(task, examples, encoder)


def read_task(config: TaskConfig, splits: Sequence[str | None], seed: int) -> tuple[TaskSpec, dict[str, Examples]]:
    """The task and its splits; None among ``splits`` stands for all that evaluate the task."""
    if config.is_own:
        wanted = ["validation" if split is None else split for split in splits]
        task, examples = load_own(own_source(config), wanted, seed)
        return task, _limited(config, examples, seed)
    task = get_task(config.name)
    wanted = [name for split in splits for name in (task.validation if split is None else (split,))]
    return task, _limited(config, {split: _built_in(config, task, split, seed) for split in wanted}, seed)


def _built_in(config: TaskConfig, task: TaskSpec, split: str, seed: int) -> Examples:
    if task.name == GRADED.name:
        return graded_examples(split, size=config.train_size if split == "train" else config.dev_size, seed=seed)
    return load_examples(task, split, config.data_dir)


def _limited(config: TaskConfig, examples: dict[str, Examples], seed: int) -> dict[str, Examples]:
    if config.max_train_samples and "train" in examples:
        examples["train"] = subset_examples(examples["train"], config.max_train_samples, seed)
    return examples


def own_source(config: TaskConfig) -> OwnSource:
    """The keys of ``task`` that describe a user's own data."""
    assert config.label is not None
    return OwnSource(
        train=config.train,
        dev=config.dev,
        test=config.test,
        text=tuple(config.text_columns),
        label=config.label,
        labels=tuple(config.labels) if config.labels else None,
        label_range=(config.label_range[0], config.label_range[1]) if config.label_range else None,
        metrics=tuple(config.metrics) if config.metrics else None,
        hub=config.hub,
        hub_config=config.hub_config,
        quoting=config.quoting,
        name=config.name,
    )


def check_reader(config: RunConfig) -> None:
    """The task must be known; an encoder from scratch knows the embedded one's words only."""
    if not config.task.is_own:
        get_task(config.task.name)
    if config.encoder.pretrained is None and config.task.name != GRADED.name:
        raise ValueError(
            f"encoder={config.encoder.name} starts from scratch and reads only task={GRADED.name}, not "
            f"task={config.task.name}; choose encoder=minilm, bert, roberta, … or encoder.pretrained=<folder>"
        )


def check_sizes(config: RunConfig, encoder: EncoderFiles) -> None:
    """The split layer, the widths and the longest input must fit the encoder."""
    sizes = encoder.sizes
    config.width.check_fits(
        num_layers=sizes.layers, hidden_size=sizes.hidden, num_heads=sizes.heads, intermediate_size=sizes.ffn
    )
    check_norm_after_cut(config.width.top_rung_norm, sizes.pre_norm)
    if config.task.max_length > sizes.max_tokens:
        limit = f"this encoder reads at most {sizes.max_tokens} tokens"
        raise ValueError(f"task.max_length={config.task.max_length}: {limit}")


def check_disk(config: RunConfig, encoder: EncoderFiles, run_dir: Path) -> None:
    """Refuse to start a run whose checkpoints will not fit on the disk."""
    copies = _COPIES_ALWAYS + sum(n for name, n in _COPIES.items() if getattr(config.checkpoint, name))
    need, free = copies * encoder.weight_bytes, shutil.disk_usage(existing_parent(run_dir)).free
    if free < need:
        raise ValueError(
            f"hydra.run.dir={run_dir}: {free / 1e6:,.0f} MB are free there, the checkpoints and the model take about "
            f"{need / 1e6:,.0f} MB; make room or choose another folder"
        )


def existing_parent(path: Path) -> Path:
    """The nearest folder above ``path`` that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def check_checkpoint(config: RunConfig, run_dir: Path) -> None:
    """A checkpoint to go on from must be a whole file."""
    if config.ckpt_path is None:
        return
    last = run_dir / "checkpoints" / "last.ckpt"
    path = last if config.ckpt_path == "last" else Path(config.ckpt_path)
    if path.exists():
        check_zip(path, "go on from another checkpoint, or begin again with overwrite=true")
