"""What a run leaves for those who come after: its config with nothing left to find out, as plain JSON types.

It lies in the run directory, in the saved model's folder and in every checkpoint, so that each of the three can be
evaluated alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sharcs_pl.config import RunConfig
from sharcs_pl.config.plain import run_from_plain
from sharcs_pl.data.tasks import TaskSpec
from sharcs_pl.models.locate import local_folder

FILE = "run.json"
CHECKPOINT_KEY = "sharcs"


def make_record(config: RunConfig, task: TaskSpec) -> dict[str, Any]:
    """The config with absolute paths, and with the classes or the score's range that were found in own data."""
    given = config.task
    paths = {key: absolute(getattr(given, key)) for key in ("data_dir", "train", "dev", "test")}
    if given.hub:
        paths = {key: getattr(given, key) for key in paths}
    found: dict[str, Any] = {}
    if given.is_own:
        found["labels"] = list(task.labels) if task.labels else None
        found["label_range"] = list(task.label_range) if task.label_range else None
        found["label_range_strict"] = given.label_range is not None and given.label_range_strict
        found["metrics"] = list(task.metrics)
    pretrained = config.encoder.pretrained
    local = pretrained is not None and not pretrained.startswith("pkg:") and local_folder(pretrained) is not None
    encoder = replace(config.encoder, pretrained=absolute(pretrained) if local else pretrained)
    kept = replace(config, task=replace(given, **paths, **found), encoder=encoder)
    return json.loads(json.dumps(asdict(kept), default=str))


def absolute(path: Any) -> Any:
    """A path as seen from anywhere; None and a share of the training file as they are."""
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path


def read_record(record: dict[str, Any]) -> RunConfig:
    """The config back, every text as it is; keys that this version does not know raise ``ValueError``."""
    task = record.get("task")
    if isinstance(task, dict):
        # Once the split was drawn with the run's seed, and a range did not say whether it was given or found.
        record = record | {"task": {"split_seed": record.get("seed", 1), "label_range_strict": False} | task}
    return run_from_plain(record)
