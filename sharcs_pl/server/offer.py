"""What a server offers of a trained model, known before the model is loaded. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.core.kinds import stored_names
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.version import __version__
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.inference.serving import Serving
from sharcs_pl.inference.trained import TrainedModel, check_options, rule_settings, text_columns_of


@dataclass(frozen=True)
class Offer:
    """What requests may ask of a model.

    `columns` are the names of its one or two texts, None where it reads both one text and pairs. `points` are the
    operating points, `point` the one of a request that names none. `labels` is None for a regression.
    """

    task: str
    columns: tuple[str, ...] | None
    allow_empty: bool
    labels: tuple[str, ...] | None
    widths: tuple[str, ...]
    points: tuple[str, ...]
    point: str
    max_length: int
    settings: dict[str, Any]

    def told(self, config: ServeConfig) -> dict[str, Any]:
        """Return what ``/info`` tells."""
        limits = ("max_texts", "max_characters", "max_body_bytes", "max_queue", "deadline_ms")
        return {
            "version": __version__,
            "task": self.task,
            "texts": self.columns,
            "labels": self.labels,
            "widths": self.widths,
            "points": self.points,
            "point": self.point,
            "overload": config.overload,
            "max_length": self.max_length,
            "limits": {key: getattr(config, key) for key in limits},
        }


def make_offer(source: TrainedModel, config: ServeConfig) -> Offer:
    """Check the options against the model. Raise ``ValueError`` naming the key at fault."""
    settings, max_length = check_options(source, config.point, config.max_length)
    if config.overload is not None:
        rule_settings(settings, config.overload, "overload")
    serving = Serving(config.backend, config.precision)
    serving.check(source)
    for point in dict.fromkeys((config.point, config.overload or config.point)):
        serving.warn_of_point(source, point)
    task = source.config.task
    columns, allow_empty = text_columns_of(source, None)
    labels = stored_names(settings)
    return Offer(
        task=task.name,
        columns=columns if source.recorded else None,
        allow_empty=allow_empty,
        labels=labels if len(labels) > 1 else None,
        widths=tuple(WidthLadder.parse(settings["widths"]).labels()),
        points=tuple(name for name in (TRAINED, *(settings.get("operating_points") or {})) if _fits(settings, name)),
        point=config.point or settings.get("operating_point") or TRAINED,
        max_length=max_length,
        settings=settings,
    )


def _fits(settings: dict[str, Any], point: str) -> bool:
    try:
        rule_settings(settings, point)
    except ValueError:
        return False
    return True
