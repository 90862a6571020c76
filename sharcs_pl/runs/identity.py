"""Comparison of a run with the one in a run directory, by config key and by the contents of what each read.

A path may be spelled otherwise, or lead to a copy; a key that a newer version brought has its default in an older run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from sharcs_pl.config import RunConfig
from sharcs_pl.config.run import DISPLAY_KEYS, PROCESS_KEYS
from sharcs_pl.core.renamed import current_task
from sharcs_pl.data.seen import hash_texts
from sharcs_pl.models.folder import SENTENCEPIECE_FILES, TOKENIZER_FILES, weight_files
from sharcs_pl.models.locate import local_folder
from sharcs_pl.models.teachers import teacher_folder
from sharcs_pl.runs.inputs import TrainingInputs

# What does not shape the result, or is fixed by another key.
_IGNORED = (
    "ckpt_path", "overwrite", "objective", "logger.", "checkpoint.", "task.save_as", "task.test",
    "hardness.bounds",  # what is used of them stands in width.bounds
    *(f"trainer.{key}" for key in DISPLAY_KEYS + PROCESS_KEYS),
)  # fmt: skip
# Keys that name contents, and what those are called in the facts.
_CONTENTS = {
    "task.data_dir": "data",
    "task.train": "data",
    "task.dev": "data",
    "task.calibration": "calibration",  # a file of it is not read in training: its place tells
    "encoder.pretrained": "encoder",
    "method.teacher": "teacher",
    "method.match": "match",
}
_FOUND_IN_DATA = (
    "task.labels",
    "task.label_range",
    "task.label_range_strict",
    "task.metrics",
)  # the record of a run has them filled in
_MOST_SHOWN = 3
Facts = dict[str, Any]


def read_facts(config: RunConfig, inputs: TrainingInputs) -> tuple[Facts, np.ndarray]:
    """Return fingerprints of all that a run reads, for its marker, and the hashes of its training texts.

    A hub id has no fingerprint, since its name tells the contents.
    """
    hashes = {split: hash_texts(examples.texts) for split, examples in inputs.examples.items()}
    data = {
        split: {
            "rows": len(examples),
            "texts": _short(hashes[split].tobytes()),
            "labels": _short(np.ascontiguousarray(examples.labels).tobytes()),
        }
        for split, examples in inputs.examples.items()
    }
    encoder = local_folder(config.encoder.pretrained) if config.encoder.pretrained else None
    teacher = teacher_folder(config.method.teacher) if config.method.teacher else None
    plan = Path(config.method.match, "plan.csv").expanduser() if config.method.match else None
    facts = {
        "data": data,
        "encoder": _folder_digest(encoder) if encoder else None,
        "teacher": _folder_digest(teacher) if teacher else None,
        "match": _short(plan.read_bytes()) if plan and plan.is_file() else None,
    }
    return facts, hashes["train"]


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _folder_digest(folder: Path) -> str:
    """Return a digest of a model's config, tokenizer and weights, which does not depend on the folder's place."""
    names = sorted({"config.json", "tokenizer_config.json", *TOKENIZER_FILES, *SENTENCEPIECE_FILES})
    files = [folder / name for name in names] + weight_files(folder)
    digest = hashlib.sha256()
    for path in filter(Path.is_file, files):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def config_differences(marker: Mapping[str, Any], config: RunConfig) -> list[str] | None:
    """Return each key that differs, such as ``trainer.max_epochs: 6 there, 8 here``; the list is empty for the same
    run. Return None for a marker that keeps no config and has another digest.

    Paths whose contents have a fingerprint are left to ``data_differences``.
    """
    given, facts = marker.get("given"), marker.get("facts") or {}
    held = given or marker.get("config")
    if not isinstance(held, dict):
        return [] if marker.get("digest") == config.digest() else None
    defaults: Any = OmegaConf.to_container(OmegaConf.structured(RunConfig))
    seed = {"task.split_seed": held.get("seed", 1)}  # which drew the split before that had a seed of its own
    there = dict(_flat(defaults)) | seed | dict(_flat(held))
    here = dict(_flat(json.loads(json.dumps(asdict(config), default=str))))
    there["task.name"] = current_task(there["task.name"])
    found = []
    for key, value in here.items():
        if key.startswith(_IGNORED) or (key == "task.split_seed" and not config.task.is_drawn):
            continue
        names = all(isinstance(each, str | None) for each in (value, there.get(key)))  # task.dev may be a share
        if names and facts.get(_CONTENTS.get(key, "")) is not None:
            continue
        filled_in = given is None and key in _FOUND_IN_DATA and (value is None or isinstance(value, bool))
        if not (filled_in or value == there.get(key) or (key in _CONTENTS and _same_place(there.get(key), value))):
            found.append(f"{key}: {_shown(there.get(key))} there, {_shown(value)} here")
    return found


def data_differences(held: Mapping[str, Any] | None, facts: Facts) -> list[str]:
    """Return each input whose contents differ from those that the run was begun with."""
    found = []
    for name, now in facts.items():
        before = (held or {}).get(name)
        if before is None or before == now:
            continue
        keys = "/".join(key for key, kind in _CONTENTS.items() if kind == name)
        found += list(_split_differences(before, now)) if name == "data" else [f"{keys} holds something else"]
    return found


def _split_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for split in sorted({*before, *now}):
        one, other = before.get(split, {}), now.get(split, {})
        if one.get("rows") != other.get("rows"):
            yield f"{split}: {one.get('rows', 0):,} rows there, {other.get('rows', 0):,} here"
        elif one != other:
            yield f"{split}: other {'texts' if one.get('texts') != other.get('texts') else 'labels'} in as many rows"


def listed(differences: list[str]) -> str:
    """Return a few of the differences, in one line."""
    more = len(differences) - _MOST_SHOWN
    return "; ".join(differences[:_MOST_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _same_place(one: Any, other: Any) -> bool:
    """Return True if two spellings lead to the same file or folder, or to files of the same contents."""
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    first, second = (Path(name).expanduser() for name in (one, other))
    if first.resolve() == second.resolve():
        return True
    if not (first.is_file() and second.is_file()):
        return False
    return _short(first.read_bytes()) == _short(second.read_bytes())


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"
