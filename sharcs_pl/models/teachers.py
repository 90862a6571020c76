"""Checks of a teacher's folder by its config. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from sharcs_pl.core.kinds import kind_of_model, stored_names
from sharcs_pl.models.encoder_sizes import ARCHITECTURES, OURS
from sharcs_pl.models.folder import read_json


def teacher_folder(path: str) -> Path:
    """Return the folder of a teacher's model, which is a run directory's ``model/`` or the folder itself."""
    place = Path(path).expanduser()
    return place / "model" if (place / "model" / "config.json").is_file() else place


def check_teacher(path: str, labels: tuple[str, ...] | None, multi_label: bool = False) -> None:
    """Raise ``ValueError`` unless the path has a fine-tuned model for these classes (None: a regression), of which a
    text has one, or with `multi_label` any number."""
    folder = teacher_folder(path)
    if not (folder / "config.json").is_file():
        raise ValueError(f"method.teacher={path} holds no model; give a run directory or a model folder")
    config = read_json(folder / "config.json")
    if config.get("model_type") not in (*OURS, *ARCHITECTURES):
        raise ValueError(f"method.teacher={path}: its model_type {config.get('model_type')} is not supported")
    found = stored_names(config)
    nameless = labels is None or all(name == f"LABEL_{i}" for i, name in enumerate(found))
    if len(found) != len(labels or [""]) or not (nameless or found == labels):
        raise ValueError(f"method.teacher={path} answers with {_shown(found)}; the task needs {_shown(labels or [''])}")

    if kind_of_model(len(found), config.get("problem_type")).multi_label != multi_label:
        wanted = "several labels" if multi_label else "one class"
        raise ValueError(f"method.teacher={path} does not answer with {wanted} per text, as the task needs")


def _shown(labels: list[str] | tuple[str, ...]) -> str:
    return ", ".join(labels) if len(labels) > 1 else "one score"
