"""Choose the threshold of each label of a trained model, measure the thresholds beside the ones before, and keep them.

The probabilities are those of the rule in use, in float32, as ``sharcs predict`` answers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharcs_pl.analysis.calibration.label_thresholds import USUAL, best_thresholds, thresholds_table
from sharcs_pl.analysis.calibration.texts import held_out
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.screen import Screen
from sharcs_pl.core.text import one_line
from sharcs_pl.evaluation.metrics import compute_metrics
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.folder import read_json
from sharcs_pl.pipeline.console import display_path
from sharcs_pl.pipeline.validate import evaluate_model
from sharcs_pl.runs.card_renewal import renewed_card
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs


def set_label_thresholds(config: CalibrateConfig, prepared: EvaluationInputs, folder: Path) -> dict[str, Any]:
    """Choose the thresholds that give each label its best f1, print them and keep them in the model's ``config.json``;
    return the thresholds by label, and the metrics with them and with the ones before."""
    task = prepared.task
    found = evaluate_model(prepared).predictions[task.validation[0]]
    choosing, measuring = halves(config, found)
    values = best_thresholds(probabilities(choosing), choosing.labels.numpy())
    before = found.thresholds or (USUAL,) * len(values)
    metrics = {
        name: compute_metrics(task.metrics, replace(measuring, thresholds=each).routed_logits(), measuring.labels)
        for name, each in (("before", before), ("now", values))
    }
    keep(folder, values)
    present(prepared, folder, measuring, (before, values), metrics)
    names = task.labels or ()
    return {"label_thresholds": dict(zip(names, values, strict=True)), **metrics}


def probabilities(found: Predictions) -> np.ndarray:
    """Return the probability of each label in the answers [S, C]."""
    return found.kind.probabilities(found.answered()).numpy()


def halves(config: CalibrateConfig, found: Predictions) -> tuple[Predictions, Predictions]:
    """Return the samples that choose, and the ones that measure; without ``holdout`` all do both."""
    size = len(found.uids)
    if config.holdout is None:
        return found, found
    away = held_out(config, size)
    if not 0 < away < size:
        raise ValueError(f"holdout={config.holdout:g} of {size} texts leaves none on one side")
    order = torch.from_numpy(np.random.default_rng(config.seed).permutation(size))
    return found.select(order[away:].sort().values), found.select(order[:away].sort().values)


def keep(folder: Path, values: tuple[float, ...]) -> None:
    """Write the thresholds into the model's ``config.json``, whose other keys stay as they are, and renew its card."""
    path = folder / "config.json"
    with renewed_card(folder, "the thresholds"):
        write_json(path, read_json(path) | {"label_thresholds": list(values)})


def present(
    prepared: EvaluationInputs,
    folder: Path,
    measured: Predictions,
    thresholds: tuple[tuple[float, ...], tuple[float, ...]],
    metrics: dict[str, dict[str, float]],
) -> None:
    """Print the table of the labels, and the metrics before and now."""
    console, task = Screen(), prepared.task
    before, now = thresholds
    title = f"{task.name}: thresholds of labels on {len(measured.uids):,} texts"
    names = [one_line(name) for name in task.labels or ()]
    console.print(thresholds_table(title, names, now, probabilities(measured), measured.labels.numpy(), before))
    for name in task.metrics:
        console.print(f"{name}: {metrics['before'][name]:.4f} before, {metrics['now'][name]:.4f} now")
    console.print(f"the thresholds are in {display_path((folder / 'config.json').absolute())}", soft_wrap=True)
