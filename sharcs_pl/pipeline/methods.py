"""The table of methods: how each model is made and what a training step of it learns (docs/methods.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sharcs_pl.config import RunConfig
from sharcs_pl.core import methods
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.pretrained import Source
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.saved import load_ladder, load_teacher
from sharcs_pl.models.skim import SkimForSequenceClassification
from sharcs_pl.training.exits import OBJECTIVES, Objective, exit_losses, exits_idle
from sharcs_pl.training.rules import TrainingRule, every_width_idle, none_idle, routed_losses
from sharcs_pl.training.skim import skim_losses
from sharcs_pl.training.slimmable import Teacher, joint_idle, joint_losses, slimmable_losses


@dataclass(frozen=True)
class MethodParts:
    """A row of the table. ``model`` makes the model from an encoder and a number of labels; ``rule`` says how a step
    trains it (the model is given, since a teacher must fit it). `core.methods` has the method's fixed properties."""

    model: Callable[[RunConfig, Source, int], Any]
    rule: Callable[[RunConfig, Any], TrainingRule]


def ladder_model(config: RunConfig, source: Source, num_labels: int) -> SharcsForSequenceClassification:
    """Build a model by width surgery, with a router only where samples are routed. A model of several widths, which
    must be equal, goes on with its norms; any other gives its encoder alone."""
    trained = load_ladder(source)
    model = SharcsForSequenceClassification.from_encoder(
        source if trained is None else trained.encoder,
        widths=config.widths,
        split_layer=config.width.split_layer,
        num_labels=num_labels,
        reduction=config.width.reduction,
        norm_init=config.width.norm_init,
        top_rung_norm=config.width.top_rung_norm and config.method.widths != "full",  # dense is the stock model
        router_hidden_size=config.router.hidden_size if config.method.routed else 0,
        router_threshold=config.router.threshold,
        dropout=config.encoder.dropout,
        cut=config.method.cut or "full",
        skim=config.method.skim_weight is not None,
    )
    for key in ("rule", "certainty", "stop_threshold", "average"):
        setattr(model.config, key, getattr(config.router, key))
    if config.method.widths == "all" and isinstance(trained, SharcsForSequenceClassification) and trained.ladder.top:
        model.tails.load_state_dict(trained.tails.state_dict())
    return model


def _routed(config: RunConfig, model: Any) -> TrainingRule:
    if config.every_rung:
        return TrainingRule(joint_losses, joint_idle, config.first_routed_epoch)
    return TrainingRule(routed_losses)


def _taught(config: RunConfig, model: Any) -> TrainingRule:
    """Train every width on every batch, by the teacher's logits where there is a teacher."""
    path = config.method.teacher
    teacher = None if path is None else Teacher(load_teacher(path, model))
    return TrainingRule(slimmable_losses(teacher), every_width_idle)


def _encoder(source: Source) -> Source:
    """Return the source itself, or the encoder of a model of this project."""
    trained = load_ladder(source)
    return source if trained is None else trained.encoder


def exits_model(config: RunConfig, source: Source, num_labels: int) -> ExitsForSequenceClassification:
    """Build a model with a head after every chosen layer."""
    method = config.method
    assert method.rule is not None
    return ExitsForSequenceClassification.from_encoder(
        _encoder(source),
        rule=method.rule,
        exits=method.exits,
        exit_head=method.exit_head or "stock",
        threshold=method.threshold,
        tolerance=method.tolerance or 0.0,
        num_labels=num_labels,
        dropout=config.encoder.dropout,
    )


def _exits(objective: Objective) -> MethodParts:
    """Return the row of a method of early exits; its stop rule is ``method.rule``."""

    def rule(config: RunConfig, model: Any) -> TrainingRule:
        return TrainingRule(exit_losses(objective), exits_idle(objective), config.stage_epochs)

    return MethodParts(exits_model, rule)


def skim_model(config: RunConfig, source: Source, num_labels: int) -> SkimForSequenceClassification:
    """Build a model with a predictor before every layer."""
    dropout = config.encoder.dropout
    return SkimForSequenceClassification.from_encoder(_encoder(source), num_labels=num_labels, dropout=dropout)


def _skimmed(config: RunConfig, model: Any) -> TrainingRule:
    return TrainingRule(skim_losses, none_idle)


METHODS = {
    "sharcs": MethodParts(ladder_model, _routed),
    "dense": MethodParts(ladder_model, _taught),
    "fixed": MethodParts(ladder_model, _taught),
    "distilled": MethodParts(ladder_model, _taught),
    "slimmable": MethodParts(ladder_model, _taught),
    "skim": MethodParts(skim_model, _skimmed),
    **{name: _exits(OBJECTIVES[facts.objective]) for name, facts in methods.METHODS.items() if facts.objective},
}


def get_method(name: str) -> MethodParts:
    """Return the method's row. Raise ``ValueError`` listing the known names for an unknown one."""
    if name not in METHODS:
        raise ValueError(f"method={name} is unknown; choose one of: {', '.join(METHODS)}")
    return METHODS[name]
