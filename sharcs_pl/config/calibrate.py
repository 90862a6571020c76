"""The keys of ``sharcs calibrate``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import check_serving, in_range, one_of
from sharcs_pl.config.evaluate import DataPaths, EvaluateConfig
from sharcs_pl.config.texts import PATH, TEXT
from sharcs_pl.core.decision import BEST, CERTAINTIES, RULES
from sharcs_pl.core.ladder import TRAINED

DIALS = ("budget", "latency_ms", "max_drop")
_MOST_OF_DENSE = 1.1  # above 1, because the router and a norm at the top rung add to the cost of the dense model


@dataclass
class CalibrationPaths(DataPaths):
    """The paths of the data, if they have changed since the run."""

    dev: str | None = field(default=None, metadata=PATH)
    """Custom data: file to calibrate on, in place of the run's own texts."""
    calibration: str | None = field(default=None, metadata=PATH)
    """Custom data: the run's file of calibration texts."""


@dataclass
class CalibrateConfig:
    """Set the budget of a trained model by choosing the thresholds of a rule on labelled texts.

    The texts must be new to the model: the run's ``task.calibration``, or another file as ``task.dev``. A run without
    calibration texts uses its validation split, which chose the best epoch; ``max_drop`` then is tested at a higher
    confidence, divided among the epochs that were candidates. The results printed for a ``budget`` or ``latency_ms``
    were measured on the texts that chose it, unless ``holdout`` sets some aside.
    """

    run: str = field(default=MISSING, metadata=PATH)
    """Run directory or saved ``model/`` folder, whose ``config.json`` keeps the operating point."""
    rule: str | None = None
    """``router`` (a width before its compute), ``cascade`` (narrow first, wider while unsure), ``router+cascade``, or
    ``best``, the most accurate or cheapest of them on these texts; null: the router where the model has one."""
    budget: float | None = None
    """Target: mean multiply-adds per text as a fraction of the dense model's, such as 0.6."""
    latency_ms: float | None = None
    """Target: mean milliseconds per text, one text at a time, on this machine in its current state."""
    max_drop: float | None = None
    """Target: highest risk P(full width right, routed wrong) of the setting; the cheapest one is chosen. It bounds
    the drop in accuracy of classifiers only; other metrics are shown without a guarantee."""
    confidence: float = 0.95
    """Confidence level of ``max_drop``, over the draw of the texts, and of the upper bounds in the table."""
    certainty: str | None = None
    """Of a cascade: ``probability`` (largest), ``margin``, ``entropy`` or ``agreement`` with the width before; null:
    that of training, or ``probability``, ``agreement`` for a regression."""
    average: bool | None = None
    """Of a cascade: answer with the mean log-probabilities of all widths that ran, or not; null: whichever is better on
    these texts."""
    temperatures: bool = False
    """Divide the logits of every width of a cascade by a temperature fitted on these texts; where answers are averaged,
    the temperatures weigh the widths too. ``max_drop`` fits them on one half of the texts and tests on the other."""
    name: str | None = field(default=None, metadata=TEXT)
    """Name of the operating point; null: after the target, such as ``budget_0.6``."""
    label_thresholds: bool = False
    """Target, of a model that gives a text any number of labels: the probability from which on each label is given, by
    the best f1 of the label on these texts, kept for every command."""
    default: bool = False
    """Use this operating point wherever none is named."""
    overwrite: bool = False
    """Replace an operating point of the same name."""
    holdout: float | None = None
    """Share of the texts, such as 0.5, set aside to measure the point that the rest chooses. Null measures on the texts
    that chose, which is optimistic with more than one threshold."""
    seed: int = 1
    """Seed of the texts of ``holdout``, the halves of ``max_drop`` with three or more rungs, and the timing order."""
    latency_repeats: int = 21
    """Timings of each rung at each length for ``latency_ms``."""
    task: CalibrationPaths = field(default_factory=CalibrationPaths)
    output: str | None = field(default=None, metadata=PATH)
    """Folder for the figure; null: ``calibration`` in the run directory, or beside a lone model."""
    suspects: str | None = field(default=None, metadata=PATH)
    """File (.tsv) for all texts as the new point answers them, the least sure answer first, for people who label."""
    eval_batch_size: int | None = None
    """Samples per batch; null: as in the run."""
    accelerator: str | None = None
    """``cpu``, ``gpu``, ``mps`` or ``auto``; null: as in the run."""
    backend: str | None = None
    """Runtime that answers and is timed, as in ``sharcs predict``: ``torch``, ``openvino`` or ``onnxruntime``; null:
    torch, or the one of a folder of parts."""
    precision: str | None = None
    """``float32`` or ``bfloat16``, as in ``sharcs predict``, and of a folder of parts also ``int8``; null: float32, or
    the one of the parts."""

    def __post_init__(self) -> None:
        given = [key for key in DIALS if getattr(self, key) is not None] + ["label_thresholds"] * self.label_thresholds
        if len(given) != 1:
            what = f"{' and '.join(given)} exclude each other" if given else "what should be reached is missing"
            raise ValueError(f"{what}; give one of budget=0.6, latency_ms=20, max_drop=0.01 and label_thresholds=true")
        self._check_label_thresholds()
        self._check_values()
        if self.task.test is not None:
            raise ValueError(f"task.test={self.task.test} is not read here; give a labelled file as task.dev")
        if self.task.dev is not None and self.task.calibration is not None:
            raise ValueError("task.dev and task.calibration exclude each other here; give the file to calibrate on")
        if self.point == TRAINED or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.point, re.ASCII):
            reserved = "is what the model has from training" if self.point == TRAINED else "is no plain name"
            raise ValueError(f"name={self.point} {reserved}; give letters, digits and ._- such as name=fast")

    def _check_label_thresholds(self) -> None:
        for key in (
            ("rule", "certainty", "average", "temperatures", "name", "default", "output", "suspects")
            if self.label_thresholds
            else ()
        ):
            if getattr(self, key) not in (None, False):
                raise ValueError(f"{key} is about an operating point; label_thresholds=true sets none, leave it out")

    def _check_values(self) -> None:
        if self.budget is not None and not 0 < self.budget <= _MOST_OF_DENSE:
            raise ValueError(f"budget={self.budget} is no fraction of the dense model's cost, such as 0.6")
        if self.latency_ms is not None and not 0 < self.latency_ms < float("inf"):
            raise ValueError(f"latency_ms={self.latency_ms} is no time in milliseconds, such as 20")
        one_of("rule", self.rule, (*RULES, BEST))
        one_of("certainty", self.certainty, tuple(CERTAINTIES))
        for key in ("max_drop", "confidence", "holdout"):
            value = getattr(self, key)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{key}={value} must lie between 0 and 1, both left out")
        in_range("seed", self.seed, 0, 2**32 - 1)
        in_range("latency_repeats", self.latency_repeats, 3)
        in_range("eval_batch_size", self.eval_batch_size, 1)
        one_of("accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
        check_serving(self.backend, self.precision, self.accelerator)

    @property
    def dial(self) -> dict[str, float]:
        """The requested target by key, with the confidence of ``max_drop``."""
        asked = {key: getattr(self, key) for key in DIALS if getattr(self, key) is not None}
        return asked | ({"confidence": self.confidence} if self.max_drop is not None else {})

    @property
    def cascades(self) -> bool:
        """True if a rule that it chooses from may send a text on to a wider width."""
        return self.rule not in (None, "router")

    @property
    def point(self) -> str:
        """The name of the operating point."""
        if self.name is not None:
            return self.name
        if self.latency_ms is not None:
            return f"latency_{self.latency_ms:g}ms"
        if self.label_thresholds:
            return "label_thresholds"
        return f"budget_{self.budget:g}" if self.budget is not None else f"drop_{self.max_drop:g}"

    def evaluation(self) -> EvaluateConfig:
        """Return the evaluation config that reads and runs the texts."""
        return EvaluateConfig(
            run=self.run,
            task=self.task,
            eval_batch_size=self.eval_batch_size,
            accelerator=self.accelerator,
            backend=self.backend,
            precision=self.precision,
        )
