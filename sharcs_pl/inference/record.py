"""The record of a run: its config with nothing left to find out, as plain JSON types.

The run directory keeps all of it, for this machine. The saved model's folder and every checkpoint, which are given
away, keep what their readers need (`travelling`): names and numbers, no place of this machine and no logger, whose
address may hold a password.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sharcs_pl.config import RunConfig
from sharcs_pl.config.plain import run_from_plain
from sharcs_pl.data.tasks import TaskSpec
from sharcs_pl.models.locate import local_folder

TRAINING = "training.json"  # in the saved model's folder
_BEFORE = "run.json"  # as earlier versions called it
MARKER = ".hydra/run.json"  # in the run directory
CHECKPOINT_KEY = "sharcs"


def make_record(config: RunConfig, task: TaskSpec) -> dict[str, Any]:
    """Return the config with absolute paths, and with the classes or the score's range that were found in own data."""
    given = config.task
    paths = {key: absolute(getattr(given, key)) for key in ("data_dir", "train", "dev", "calibration", "test")}
    if given.hub:
        paths = {key: getattr(given, key) for key in paths}
    found: dict[str, Any] = {}
    if given.is_custom:
        found["labels"] = list(task.labels) if task.labels else None
        found["label_range"] = list(task.label_range) if task.label_range else None
        found["label_range_strict"] = given.label_range is not None and given.label_range_strict
        found["metrics"] = list(task.metrics)
    pretrained = config.encoder.pretrained
    local = pretrained is not None and not pretrained.startswith("pkg:") and local_folder(pretrained) is not None
    encoder = replace(config.encoder, pretrained=absolute(pretrained) if local else pretrained)
    kept = replace(config, task=replace(given, **paths, **found), encoder=encoder)
    return json.loads(json.dumps(asdict(kept), default=str))


# Of the groups and keys that hold texts, what readers of a model need; every key of the others is a number or a choice.
_TRAVELS = (
    "width", "router", "hardness", "distill", "optim", "trainer", "checkpoint", "batch_size", "eval_batch_size", "seed",
)  # fmt: skip
_OF_TASK = (
    "name", "max_length", "max_train_samples", "train_size", "dev_size", "split_seed", "text", "label", "labels",
    "label_range", "label_range_strict", "positive", "metrics", "quoting", "delimiter", "encoding", "multi_label",
    "label_separator",
)  # fmt: skip
_OF_ENCODER = (
    "name", "dropout", "attn_implementation", "hidden_size", "num_layers", "num_heads", "intermediate_size",
)  # fmt: skip
_OF_METHOD = (
    "name", "width", "cut", "exits", "exit_head", "rule", "threshold",
    "tolerance", "skim_weight", "stage_epochs",
)  # fmt: skip
_FIXED = ("routed", "widths", "options", "needs")
_GROUPS = ("task", "encoder", "method")
_FROM_THE_HUB = ("hub", "hub_config", "train", "dev", "calibration", "test")


def travelling(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record without what belongs to this machine. Files and folders are left out, but for the last part of
    the paths of an encoder, a teacher and a matched run, which says that there was one."""
    groups = {name: record[name] if isinstance(record.get(name), Mapping) else {} for name in _GROUPS}
    found = {
        "task": _kept(groups["task"], _OF_TASK) | _data(groups["task"]),
        "encoder": _kept(groups["encoder"], _OF_ENCODER) | _places(groups["encoder"], ("pretrained",)),
        "method": _kept(groups["method"], _OF_METHOD) | _places(groups["method"], ("match", "teacher")),
    }
    return found | _kept(record, _TRAVELS)


def _kept(group: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: group[name] for name in names if name in group}


def _data(task: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the splits of a dataset on the hub; of files, keep the shares for validation and calibration alone."""
    hub = task.get("hub")
    if isinstance(hub, str) and local_folder(hub) is None:
        return _kept(task, _FROM_THE_HUB)
    return _kept(task, (key for key in ("dev", "calibration") if not isinstance(task.get(key), str | None)))


def _places(group: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Keep a hub id or a package as it is; of a folder keep the name, written so that it cannot be read as a hub id."""
    return {name: _nameplate(value, name == "pretrained") for name, value in _kept(group, names).items()}


def _nameplate(place: Any, hub_too: bool) -> Any:
    here = isinstance(place, str) and not (hub_too and (place.startswith("pkg:") or not Path(place).is_absolute()))
    return f"./{Path(place).name}" if here else place


def absolute(path: Any) -> Any:
    """Make a path absolute; return None and a share of the training file unchanged."""
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path


def record_file(folder: Path) -> Path | None:
    """Return the file of a saved model's folder that says how it was trained, or None."""
    return next((folder / name for name in (TRAINING, _BEFORE) if (folder / name).is_file()), None)


def read_record(record: dict[str, Any]) -> RunConfig:
    """Read the config back, every text as it is. Keys that this version does not know raise ``ValueError``."""
    task = record.get("task")
    if isinstance(task, dict):
        # Once the split was drawn with the run's seed, and a range did not say whether it was given or found.
        record = record | {"task": {"split_seed": record.get("seed", 1), "label_range_strict": False} | task}
    method = record.get("method")
    if isinstance(method, dict):  # which once held what is fixed about each method
        record = record | {"method": {key: value for key, value in method.items() if key not in _FIXED}}
    return run_from_plain(record)
