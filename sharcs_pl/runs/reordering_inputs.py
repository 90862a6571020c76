"""The inputs of ``sharcs reorder``, checked before a model is loaded: the texts, and the run or the encoder."""

from __future__ import annotations

from dataclasses import dataclass

from sharcs_pl.config import RunConfig
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.data.tasks import Examples, TaskSpec
from sharcs_pl.inference.trained import TrainedModel, model_settings, open_trained
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.locate import EncoderFiles, locate
from sharcs_pl.runs.inputs import check_reader, check_sizes, read_task
from sharcs_pl.runs.seen import warn_of_seen

FILE = "reorder.json"
OWN = ("importance.parquet", "importance.png", FILE)  # beside the checkpoint


@dataclass(frozen=True)
class ReorderingInputs:
    """Everything that is read before a model is loaded. `source` is None without ``run=``; `encoder` is the checkpoint
    that is measured without it, and the one that is saved with ``weights=pretrained``."""

    config: RunConfig
    task: TaskSpec
    examples: dict[str, Examples]
    source: TrainedModel | None
    encoder: EncoderFiles | None


def find(config: ReorderConfig) -> ReorderingInputs:
    """Find the texts, and the run or the encoder, without loading them. Raise ``ValueError`` naming what is missing."""
    source = open_trained(config.run) if config.run is not None else None
    run_config = config.run_config() if source is None else config.applied_to(source.config)
    encoder = starting_point(config, run_config)
    if source is None:
        check_reader(run_config)
        assert encoder is not None
        check_sizes(run_config, encoder)
    else:
        check_run(run_config, source)
    splits = ("train", None) if config.split == "train" or source is None else (None,)
    task, examples = read_task(run_config.task, splits, run_config.seed)
    if source is not None:
        warn_of_seen(source, {split: examples[split] for split in task.validation})
    return ReorderingInputs(run_config, task, examples, source, encoder)


def starting_point(config: ReorderConfig, run_config: RunConfig) -> EncoderFiles | None:
    """Return the pretrained checkpoint, where one is measured or saved, else None."""
    pretrained = run_config.encoder.pretrained
    if config.run is not None and config.weights == "trained":
        return None
    if pretrained is None:
        raise ValueError(f"weights=pretrained: run={config.run} started from scratch; use weights=trained")
    return locate(pretrained)


def check_run(run_config: RunConfig, source: TrainedModel) -> None:
    """Raise ``ValueError`` unless the widths of the report fit the run's encoder."""
    sizes = encoder_sizes({"max_position_embeddings": 1, **model_settings(source)["encoder"]})
    run_config.width.check_fits(
        num_layers=sizes.layers, hidden_size=sizes.hidden, num_heads=sizes.heads, intermediate_size=sizes.ffn
    )
