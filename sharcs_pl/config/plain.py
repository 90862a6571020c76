"""Configs from plain values, without interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from sharcs_pl.config.run import RunConfig
from sharcs_pl.core.literal import literal


def from_plain(schema: type, values: Mapping[str, Any]) -> Any:
    """Return the checked dataclass of plain values, with every text taken literally. A key or value that does not fit
    raises an error naming it."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), literal(values)))


def run_from_plain(values: Mapping[str, Any]) -> RunConfig:
    """Return the checked run config of plain values. ``task.labels`` bypasses OmegaConf, which refuses ``???``."""
    task = values.get("task")
    labels = task.get("labels") if isinstance(task, Mapping) else None
    if not isinstance(task, Mapping) or not isinstance(labels, list):
        return from_plain(RunConfig, values)
    config = from_plain(RunConfig, {**values, "task": {**task, "labels": None}})
    return replace(config, task=replace(config.task, labels=labels))
