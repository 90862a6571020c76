"""The values of a run's keys that are ``auto``, from the encoder's files and the training texts. Loads no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sharcs_pl.config import RunConfig
from sharcs_pl.config.auto import Basis, decided
from sharcs_pl.config.checks import AUTO
from sharcs_pl.config.run import key_of
from sharcs_pl.core.widths import check_split
from sharcs_pl.models.locate import locate
from sharcs_pl.runs.inputs import check_reader, read_task


def decide_auto(config: RunConfig) -> tuple[RunConfig, dict[str, Any]]:
    """Return the config with a value for every key that is ``auto``, and these values by key. Raise ``ValueError``
    naming the key, file or line at fault where the encoder or the texts cannot be read."""
    keys = config.undecided
    if not keys:
        return config, {}
    check_reader(config)
    found = decided(config, basis_of(config))
    return found, {key: key_of(found, key) for key in keys}


def basis_of(config: RunConfig) -> Basis:
    """Return what the values follow from."""
    task, encoder = config.task, config.encoder
    sizes = (encoder.num_layers, encoder.hidden_size, encoder.num_heads, encoder.intermediate_size)
    if encoder.pretrained is not None:
        known = locate(encoder.pretrained).sizes
        sizes = (known.layers, known.hidden, known.heads, known.ffn)
    if config.method.widths != "none":
        check_split(1 if config.width.split_layer == AUTO else config.width.split_layer, sizes[0])
    task = replace(task, calibration=None) if task.calibration == AUTO else task
    _, examples = read_task(task, ("train",), config.seed)
    return Basis(*sizes, len(examples["train"]))
