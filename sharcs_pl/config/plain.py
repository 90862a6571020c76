"""Configs from plain values, in which nothing is interpolated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from sharcs_pl.config.run import RunConfig
from sharcs_pl.core.literal import literal


def from_plain(schema: type, values: Mapping[str, Any]) -> Any:
    """The checked dataclass of plain values, every text taken as it is; a key or value that does not fit raises an
    error naming it."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), literal(values)))


def run_from_plain(values: Mapping[str, Any]) -> RunConfig:
    """The same of a run. Its classes go past OmegaConf, which takes one called ``???`` for a value that is missing."""
    task = values.get("task")
    labels = task.get("labels") if isinstance(task, Mapping) else None
    if not isinstance(task, Mapping) or not isinstance(labels, list):
        return from_plain(RunConfig, values)
    config = from_plain(RunConfig, {**values, "task": {**task, "labels": None}})
    return replace(config, task=replace(config.task, labels=labels))
