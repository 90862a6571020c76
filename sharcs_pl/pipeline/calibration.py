"""Choose an operating point of a trained model, measure it beside the others and keep it.

The texts are answered in float32, as ``sharcs predict`` answers, whatever precision the run was trained in.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharcs_pl.analysis.calibration.budget import Dial
from sharcs_pl.analysis.calibration.points import Row, Thresholds, Views, draw_points, measure_all, points_table
from sharcs_pl.analysis.calibration.risk_control import control
from sharcs_pl.analysis.calibration.rung_latency import Latency, latency_table, measure_latency, timed_lengths
from sharcs_pl.analysis.calibration.texts import bound_holds, chose_epoch, digest_of, held_out
from sharcs_pl.analysis.figures.style import have_matplotlib
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.screen import Screen
from sharcs_pl.core.written import Written
from sharcs_pl.inference.engine import Batch, Engine
from sharcs_pl.inference.trained import CARD
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.console import display_path
from sharcs_pl.pipeline.validate import evaluate_model
from sharcs_pl.runs.card import is_own_card, write_card
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs


def set_point(
    config: CalibrateConfig, prepared: EvaluationInputs, folder: Path, figure: tuple[Path, Written]
) -> dict[str, Any]:
    """Choose a point, print it beside the model's others and keep it; return what is kept.

    ``figure`` is the folder of the figure and the list of what was written there. Raise ``ValueError`` where the point
    is out of reach or cannot be promised; then nothing is kept.
    """
    model, views = answer(prepared)
    if config.latency_ms is not None:
        views = time_rungs(config, prepared, model, views)
    choosing, measuring = split_off(config, views)
    thresholds, found = choose(config, choosing)
    here = origin(config, prepared, choosing, measuring)
    rows = check_bounds(config, measure_points(config, model, measuring, thresholds), model, here, found)
    record = {"thresholds": list(thresholds), **config.dial, **here}
    record |= rows[-1].to_json(model.ladder.labels()) | found
    keep(folder, config, record)
    present(config, folder, rows, measuring, figure)
    return record


def answer(prepared: EvaluationInputs) -> tuple[SharcsForSequenceClassification, Views]:
    """Return the model and every rung's answer to every text."""
    done = evaluate_model(prepared)
    found = done.predictions[prepared.task.validation[0]]
    return done.model, Views.of(found, prepared.task, done.model.cost, prepared.config.seed)


def time_rungs(
    config: CalibrateConfig, prepared: EvaluationInputs, model: SharcsForSequenceClassification, views: Views
) -> Views:
    """Return the views with the latency of each text on each rung; what was timed is printed."""
    latency = engine_latency(model, views.predictions.lengths.numpy(), config, prepared.config.trainer.accelerator)
    Screen().print(latency_table(latency, model.ladder.labels()))
    return views.timed(latency.of(views.predictions.lengths.numpy()))


def engine_latency(
    model: SharcsForSequenceClassification, lengths: np.ndarray, config: CalibrateConfig, accelerator: str
) -> Latency:
    """Time the engine of ``sharcs predict`` behind the tokenizer, one text at a time."""
    graphics = "cuda" if torch.cuda.is_available() else "cpu"
    device = accelerator if accelerator in ("cpu", "mps") else graphics
    engine, index = Engine(model.to(device)), torch.zeros(1, dtype=torch.long)  # pyright: ignore[reportArgumentType]

    def one_text(rung: int, length: int) -> None:
        ids = torch.ones(1, length, dtype=torch.long)  # the choice of tokens changes no time
        engine.answer(Batch(index, ids, torch.tensor([length])), torch.tensor([rung]))

    return measure_latency(one_text, len(model.ladder), timed_lengths(lengths), config.latency_repeats, config.seed)


def split_off(config: CalibrateConfig, views: Views) -> tuple[Views, Views]:
    """Return the texts that choose, and the ones that measure; without ``holdout`` all texts do both."""
    size = len(views.outcomes)
    away = held_out(config, size)
    if config.holdout is None:
        return views, views
    if not 0 < away < size:
        raise ValueError(f"holdout={config.holdout:g} of {size} texts leaves none on one side")
    order = np.random.default_rng(config.seed).permutation(size)
    return views.select(np.sort(order[away:])), views.select(np.sort(order[:away]))


def choose(config: CalibrateConfig, views: Views) -> tuple[tuple[float, ...], dict[str, Any]]:
    """Choose the thresholds; return them and a promise's basis, the number of texts that tested it and its bound."""
    if config.max_drop is not None:
        promise = control(views.outcomes, config.max_drop, config.confidence, config.seed)
        return promise.thresholds, {"tested": promise.samples, "risk_bound": promise.bound}
    if config.budget is not None:
        return Dial.of(views.outcomes).spend(config.budget, views.metric), {}
    assert config.latency_ms is not None
    return Dial.of(views.by_latency).spend(config.latency_ms, views.metric, key="latency_ms"), {}


def measure_points(
    config: CalibrateConfig, model: SharcsForSequenceClassification, views: Views, thresholds: tuple[float, ...]
) -> list[Row]:
    """Measure the rule of training, the points that the model has, and last the new one."""
    stored = [name for name in (TRAINED, *model.config.operating_points) if name != config.point]
    points: dict[str, Thresholds] = {name: model.config.decision(name).starts for name in stored}
    return measure_all(points | {config.point: thresholds}, views, config.confidence)


def origin(config: CalibrateConfig, prepared: EvaluationInputs, choosing: Views, measuring: Views) -> dict[str, Any]:
    """Return the texts behind a point's figures: ``samples`` chose it and, without ``holdout``, measured it too."""
    split, count = choosing.task.validation[0], chose_epoch(config, prepared)
    found = {"task": choosing.task.name, "split": split, "samples": len(choosing.outcomes)}
    if config.holdout is not None:
        found |= {"holdout": config.holdout, "holdout_samples": len(measuring.outcomes)}
    if count:
        found["chose_epoch"] = count
    return found | {"texts": digest_of(prepared.examples[split]), "confidence": config.confidence, "seed": config.seed}


def check_bounds(
    config: CalibrateConfig,
    rows: list[Row],
    model: SharcsForSequenceClassification,
    here: dict[str, Any],
    found: dict[str, Any],
) -> list[Row]:
    """Return the rows with what their bounds are worth; ``here`` is the origin, ``found`` what a promise rests on."""
    clean, stored = "chose_epoch" not in here, model.config.operating_points
    *others, new = (replace(row, holds=clean and bound_holds(stored.get(row.name, {}), here)) for row in rows)
    chosen_apart = config.max_drop is not None or config.holdout is not None or len(new.thresholds or ()) < 2
    new = replace(new, holds=clean and chosen_apart)
    if config.max_drop is not None and config.holdout is None:
        new = replace(new, bound=found["risk_bound"])  # that of the texts that tested, not of those that searched
    return [*others, new]


def keep(folder: Path, config: CalibrateConfig, record: dict[str, Any]) -> None:
    """Add the point to the model's ``config.json``, whose other keys stay as they are, and renew the model's card."""
    path, renews = folder / "config.json", is_own_card(folder)
    saved = read_json(path)
    points = {name: old for name, old in saved.get("operating_points", {}).items() if name != config.point}
    saved["operating_points"] = points | {config.point: record}
    if config.default:
        saved["operating_point"] = config.point
    write_json(path, saved)
    if renews:
        write_card(folder)
    else:
        told = f"{folder / CARD} was changed by hand and stays as it is; remove it to have the point written into it"
        warnings.warn(told, DataWarning, stacklevel=2)


def present(config: CalibrateConfig, folder: Path, rows: list[Row], views: Views, figure: tuple[Path, Written]) -> None:
    """Print the table of all points, and draw the figure where matplotlib is installed."""
    console, widths = Screen(), views.cost.ladder.labels()
    held = "" if config.holdout is None else " held out"
    title = f"{views.task.name}: operating points on {len(views.outcomes):,} texts{held}"
    console.print(points_table(rows, widths, config.confidence, title))
    places = [folder / "config.json"]
    if have_matplotlib():
        output, listed = figure
        output.mkdir(parents=True, exist_ok=True)
        listed.claim([f"{config.point}.png"])
        places.append(draw_points(rows, views, output / f"{config.point}.png"))
    where = " and ".join(display_path(place.absolute()) for place in places)
    use = "is now the point in use" if config.default else f"predict point={config.point} takes it"
    console.print(f"{config.point} is in {where}; {use}", soft_wrap=True)
