"""The keys of ``sharcs calibrate``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.evaluate import DataPaths, EvaluateConfig
from sharcs_pl.config.texts import PATH, TEXT

RESERVED = "trained"  # the operating point that training left
DIALS = ("budget", "latency_ms", "max_drop")
_MOST_OF_DENSE = 1.1  # the router, and a norm at the top rung, come on top of the dense model


@dataclass
class CalibrationPaths(DataPaths):
    """Where the data is now, if it is not where the run found it."""

    dev: str | None = field(default=None, metadata=PATH)
    """Own data: file to calibrate on, in place of the run's own texts."""
    calibration: str | None = field(default=None, metadata=PATH)
    """Own data: the run's file of calibration texts."""


@dataclass
class CalibrateConfig:
    """Set the budget of a trained model: choose the router's thresholds on labelled texts and keep them with it.

    The texts must be new to the model: those of the run's ``task.calibration``, or a file of your own as ``task.dev``.
    A run that kept none is set on its validation split, which chose the best epoch: a warning says so, and ``max_drop``
    is then no promise. What is printed for a ``budget`` or ``latency_ms`` was measured on the texts that chose it,
    unless ``holdout`` sets some aside.
    """

    run: str = field(default=MISSING, metadata=PATH)
    """A run directory, or a saved ``model/`` folder; the point is kept in its ``config.json``."""
    budget: float | None = None
    """The dial: mean multiply-adds per text as a fraction of the dense model's, such as 0.6."""
    latency_ms: float | None = None
    """The dial: mean milliseconds per text, one at a time, on this machine as it is now."""
    max_drop: float | None = None
    """The dial: the cheapest thresholds whose risk P(full width right, routed wrong) is at most this. Bounds the drop
    in accuracy, of classifiers only; other metrics are shown beside it and promised nothing."""
    confidence: float = 0.95
    """Of the promise of ``max_drop``, over the draw of the texts; and of the upper bounds in the table."""
    name: str | None = field(default=None, metadata=TEXT)
    """The point's name; null: after the dial, such as ``budget_0.6``."""
    default: bool = False
    """Make it the point in use where none is named."""
    overwrite: bool = False
    """Replace a point of the same name."""
    holdout: float | None = None
    """Share of the texts, such as 0.5, that is set aside: the rest chooses the point, these measure all of them. Null:
    the texts that chose measure too, which flatters a metric chosen by more than one threshold."""
    seed: int = 1
    """Draws the texts of ``holdout``, the halves of ``max_drop`` with three rungs or more, and the order of timings."""
    latency_repeats: int = 21
    """Timings of each rung at each length for ``latency_ms``."""
    task: CalibrationPaths = field(default_factory=CalibrationPaths)
    output: str | None = field(default=None, metadata=PATH)
    """Folder for the figure; null: ``calibration`` in the run directory, or beside a lone model."""
    eval_batch_size: int | None = None
    """Samples per batch; null: as in the run."""
    accelerator: str | None = None
    """``cpu``, ``gpu``, ``mps`` or ``auto``; null: as in the run."""

    def __post_init__(self) -> None:
        given = [key for key in DIALS if getattr(self, key) is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} exclude each other" if given else "what should be reached is missing"
            raise ValueError(f"{what}; give one of budget=0.6, latency_ms=20 and max_drop=0.01")
        self._check_values()
        if self.task.test is not None:
            raise ValueError(f"task.test={self.task.test} is not read here; give a labelled file as task.dev")
        if self.task.dev is not None and self.task.calibration is not None:
            raise ValueError("task.dev and task.calibration exclude each other here; give the file to calibrate on")
        if self.point == RESERVED or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.point, re.ASCII):
            reserved = "is what the model has from training" if self.point == RESERVED else "is no plain name"
            raise ValueError(f"name={self.point} {reserved}; give letters, digits and ._- such as name=fast")

    def _check_values(self) -> None:
        if self.budget is not None and not 0 < self.budget <= _MOST_OF_DENSE:
            raise ValueError(f"budget={self.budget} is no fraction of the dense model's cost, such as 0.6")
        if self.latency_ms is not None and not 0 < self.latency_ms < float("inf"):
            raise ValueError(f"latency_ms={self.latency_ms} is no time in milliseconds, such as 20")
        for key in ("max_drop", "confidence", "holdout"):
            value = getattr(self, key)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{key}={value} must lie between 0 and 1, both left out")
        in_range("seed", self.seed, 0, 2**32 - 1)
        in_range("latency_repeats", self.latency_repeats, 3)
        if self.eval_batch_size is not None:
            in_range("eval_batch_size", self.eval_batch_size, 1)
        if self.accelerator is not None:
            one_of("accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))

    @property
    def dial(self) -> dict[str, float]:
        """What was asked for, by key."""
        asked = {key: getattr(self, key) for key in DIALS if getattr(self, key) is not None}
        return asked | ({"confidence": self.confidence} if self.max_drop is not None else {})

    @property
    def point(self) -> str:
        """The name of the operating point."""
        if self.name is not None:
            return self.name
        if self.latency_ms is not None:
            return f"latency_{self.latency_ms:g}ms"
        return f"budget_{self.budget:g}" if self.budget is not None else f"drop_{self.max_drop:g}"

    def evaluation(self) -> EvaluateConfig:
        """How the texts are read and run."""
        return EvaluateConfig(
            run=self.run, task=self.task, eval_batch_size=self.eval_batch_size, accelerator=self.accelerator
        )
