"""Saving and loading of models, also as teachers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedModel

from sharcs_pl.models.base import thresholds_of
from sharcs_pl.models.exits import ExitsConfig, ExitsForSequenceClassification
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.pretrained import Source, check_finite
from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification
from sharcs_pl.models.skim import SkimConfig, SkimForSequenceClassification
from sharcs_pl.models.stock_form import is_stock
from sharcs_pl.models.teachers import teacher_folder

CLASSES: dict[str, Any] = {
    SharcsConfig.model_type: SharcsForSequenceClassification,
    ExitsConfig.model_type: ExitsForSequenceClassification,
    SkimConfig.model_type: SkimForSequenceClassification,
}
"""This project's models by the ``model_type`` of their config."""


def as_stock(model: Any) -> PreTrainedModel:
    """Return the stock model in a model of this project, sharing its weights, with its labels and problem type."""
    stock: Any = copy.copy(model.encoder)
    stock.config = copy.deepcopy(model.encoder.config)
    stock.config.id2label, stock.config.label2id = model.config.id2label, model.config.label2id
    stock.config.problem_type = model.kind.problem_type
    for key, value in thresholds_of(model.config).items():
        setattr(stock.config, key, value)
    return stock


def save_model(model: Any, folder: Path) -> None:
    """Save a model in transformers' format, as a stock checkpoint if the model is only its encoder."""
    stock = is_stock(model.config.to_dict())
    (as_stock(model) if stock else model).save_pretrained(folder)


def model_from_settings(settings: dict[str, Any]) -> Any:
    """Return a model of this project with fresh weights, from its config as a dict."""
    found = CLASSES[settings["model_type"]]
    return found(found.config_class.from_dict(settings))


def load_saved(folder: Path, stock_class: Any = AutoModelForSequenceClassification) -> Any:
    """Load a model of this project, or a stock checkpoint as `stock_class`, in evaluation mode. Of this project's
    classes `SharcsForSequenceClassification` makes a stock checkpoint a model of one width."""
    model_type = read_json(folder / "config.json").get("model_type")
    return CLASSES.get(str(model_type), stock_class).from_pretrained(folder).eval()


def load_ladder(source: Source) -> Any:
    """Load the model of this project in the folder `source`, whose `encoder` can be trained further. Return None for a
    stock checkpoint, a hub id or a model object."""
    config = Path(source) / "config.json" if isinstance(source, str | Path) else None
    if config is None or not config.is_file() or read_json(config).get("model_type") not in CLASSES:
        return None
    model = load_saved(config.parent).float()  # training chooses the precision, not the checkpoint
    check_finite(model, f"encoder.pretrained={source}")
    return model


def load_teacher(path: str, student: Any) -> Any:
    """Load the teacher at ``path``. Raise ``ValueError`` unless it reads the student's tokens."""
    teacher = load_saved(teacher_folder(path))
    check_finite(teacher, f"method.teacher={path}")
    sizes = [model.get_input_embeddings().num_embeddings for model in (teacher, student)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"method.teacher={path} knows {sizes[0]:,} tokens, encoder.pretrained {sizes[1]:,}: they need one tokenizer"
        )
    return teacher
