"""The texts that set an operating point, and the promises they allow, having chosen the epoch or thresholds or not."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sharcs_pl.config import RunConfig
from sharcs_pl.data.delimited import cells_of_any_size
from sharcs_pl.runs.files import PREDICTION_COLUMNS

if TYPE_CHECKING:
    from sharcs_pl.config.calibrate import CalibrateConfig
    from sharcs_pl.data.spec import Examples
    from sharcs_pl.inference.trained import TrainedModel
    from sharcs_pl.runs.evaluation_inputs import EvaluationInputs

PREDICTIONS = "predictions.tsv"


def split_of(config: CalibrateConfig, run: RunConfig) -> str | None:
    """Return the split to calibrate on: the calibration split where there is one and no ``task.dev`` is given, else
    None for the split that evaluates the task."""
    kept = config.task.calibration or run.task.calibration
    return "calibration" if kept is not None and config.task.dev is None else None


def chose_epoch(config: CalibrateConfig, prepared: EvaluationInputs) -> int:
    """Return how many of the texts are in the validation split that chose the run's best epoch; 0 where it chose none.

    The run's own validation split counts wherever it lies now. A file is compared with the run's predictions, where
    they exist.
    """
    run = prepared.source.config
    if run.candidate_models < 2:
        return 0
    split = split_of(config, run)
    size = len(prepared.examples[prepared.task.validation[0]])
    if split is None and config.task.dev is None:
        return size
    if split is not None and config.task.calibration is None and not isinstance(run.task.calibration, str):
        return 0  # a share of train
    known = _validated(prepared.source)
    return sum(texts in known for texts in prepared.examples[prepared.task.validation[0]].texts)


def confidence_of(config: CalibrateConfig, prepared: EvaluationInputs) -> float:
    """Return the confidence of a single test. Texts that chose among several models would have tested any of them, so
    each gets its share of the level (Bonferroni), which keeps the promise for the one that was chosen."""
    models = prepared.source.config.candidate_models if chose_epoch(config, prepared) else 1
    return 1 - (1 - config.confidence) / max(1, models)


def _validated(source: TrainedModel) -> set[tuple[str, ...]]:
    """Return the texts of the run's validation split, from its predictions."""
    path = source.home / PREDICTIONS
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file, cells_of_any_size():
        rows = csv.DictReader(file, delimiter="\t")
        return {tuple(cell for name, cell in row.items() if name not in PREDICTION_COLUMNS) for row in rows}


def digest_of(examples: Examples) -> str:
    """Return a hash of texts and labels; points of equal hashes were set on the same texts."""
    digest = hashlib.sha256(json.dumps(examples.labels.tolist()).encode())
    digest.update(json.dumps(examples.texts).encode())
    return digest.hexdigest()[:16]


def bound_holds(point: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Return True if the bound of a point's risk holds where it is measured. It does not where the texts that measure
    chose two or more of its thresholds by their answers, nor where that is not known.

    Args:
        point: the record of the point; without thresholds for the rule of training.
        here: the record of what measures: ``texts`` (`digest_of` all), ``seed``, and ``holdout`` where it is a share.
    """
    thresholds = [*point.get("thresholds", ()), *point.get("stops", ())]
    if len(thresholds) < 2 and not point.get("average"):  # a single one follows from the cost alone, or was tested
        return True
    if "texts" not in point:
        return False
    others = point["texts"] != here["texts"]
    same_halves = here.get("holdout") is not None and all(
        point.get(key) == here.get(key) for key in ("holdout", "seed")
    )
    return others or same_halves


def held_out(config: CalibrateConfig, size: int) -> int:
    """Return the number of texts that only measure."""
    return round((config.holdout or 0) * size)
