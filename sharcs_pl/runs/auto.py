"""The values of a run's keys that are ``auto``, from the encoder's files and the training texts. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharcs_pl.config import RunConfig
from sharcs_pl.config.auto import Basis, decided, with_value
from sharcs_pl.config.checks import AUTO
from sharcs_pl.config.run import key_of
from sharcs_pl.core.widths import check_split
from sharcs_pl.inference.record import MARKER
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.locate import locate
from sharcs_pl.runs.inputs import check_reader, read_task

_OF_ROUTING = ("hardness.", "width.bounds", "width.reorder_after", "router.")


def decide_auto(config: RunConfig, run_dir: Path | None = None) -> tuple[RunConfig, dict[str, Any]]:
    """Return the config with a value for every key that is ``auto``, and by key those that its method reads.

    A run in ``run_dir`` that is gone on with keeps the values that it was begun with. Raise ``ValueError`` naming the
    key, file or line at fault where the encoder or the texts cannot be read.
    """
    keys = config.undecided
    if not keys:
        return config, {}
    check_reader(config)
    found = begun_with(config, run_dir) or decided(config, basis_of(config))
    if found.task.calibration != config.task.calibration:
        keys.append("task.calibration")
    unread = (() if config.method.routed else _OF_ROUTING) + (() if config.method.widths == "all" else ("distill.",))
    read = [key for key in keys if not key.startswith(unread)]
    return found, {key: key_of(found, key) for key in read if key_of(found, key) is not None}


def begun_with(config: RunConfig, run_dir: Path | None) -> RunConfig | None:
    """Return the config with the values of the run in the directory, None unless that is gone on with."""
    marker = None if run_dir is None else run_dir / MARKER
    if marker is None or config.ckpt_path != "last" or config.overwrite or not marker.exists():
        return None
    given = read_json(marker).get("given")
    if not isinstance(given, dict):
        return None
    try:
        values = {key: _value(given, key) for key in config.undecided}
        calibration = _value(given, "task.calibration")
    except (KeyError, TypeError):  # of an earlier version, or another kind of run
        return None
    if config.task.calibration is None:
        config = with_value(config, "task.calibration", calibration)
    for key, value in values.items():
        config = with_value(config, key, value)
    return config


def _value(given: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        given = given[part]
    return given


def basis_of(config: RunConfig) -> Basis:
    """Return what the values follow from."""
    encoder, ladder = config.encoder, None
    sizes = (encoder.num_layers, encoder.hidden_size, encoder.num_heads, encoder.intermediate_size)
    if encoder.pretrained is not None:
        located = locate(encoder.pretrained)
        known, ladder = located.sizes, located.ladder
        sizes = (known.layers, known.hidden, known.heads, known.ffn)
    if config.method.widths != "none":
        check_split(1 if config.width.split_layer == AUTO else config.width.split_layer, sizes[0])
    _, examples = read_task(config.task, ("train",), config.seed)
    return Basis(*sizes, len(examples["train"]), ladder)
