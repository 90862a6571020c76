"""Choose an operating point of a trained model, measure it beside the others and keep it.

The texts are answered in float32, as ``sharcs predict`` answers, whatever precision the run was trained in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sharcs_pl.analysis.calibration.points import Row, draw_points, measure_all, points_table
from sharcs_pl.analysis.calibration.risk_control import control
from sharcs_pl.analysis.calibration.rules import Cascades, control_rule, setting_within
from sharcs_pl.analysis.calibration.rung_latency import Latency, latency_table, measure_latency, timed_lengths
from sharcs_pl.analysis.calibration.texts import bound_holds, chose_epoch, confidence_of, digest_of, held_out
from sharcs_pl.analysis.calibration.views import Views, decided
from sharcs_pl.analysis.figures.style import have_matplotlib
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.core.cascade import certainty_of
from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.screen import Screen
from sharcs_pl.core.written import Written
from sharcs_pl.inference.backend_model import engine_of
from sharcs_pl.inference.batches import Batch
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.console import display_path
from sharcs_pl.pipeline.devices import device_of
from sharcs_pl.pipeline.results import write_predictions
from sharcs_pl.pipeline.validate import evaluate_model
from sharcs_pl.runs.card_renewal import renewed_card
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
    rule, found = choose(config, choosing, confidence_of(config, prepared))
    here = origin(config, prepared, choosing, measuring)
    rows = check_bounds(config, measure_points(config, model, measuring, rule), model, here, found)
    record = {**rule.to_point(), **config.dial, **here}
    record |= rows[-1].to_json(model.ladder.labels()) | found
    keep(folder, config, record)
    if config.suspects is not None:
        write_suspects(Path(config.suspects).expanduser(), views, rule, prepared)
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
    lengths, rungs = views.predictions.lengths.numpy(), range(len(model.ladder))
    starts = rungs if model.router is not None else rungs[:1]
    passes = [(rung, rung) for rung in rungs]
    passes += [(first, last) for first in starts for last in rungs if first < last and config.cascades]
    latency = engine_latency(model, lengths, passes, config, prepared.config.trainer.accelerator)
    widths = model.ladder.labels()
    names = [" to ".join(dict.fromkeys((widths[first], widths[last]))) for first, last in passes]
    Screen().print(latency_table(latency, names))
    table = np.full((len(lengths), len(rungs), len(rungs)), np.nan)
    for (first, last), column in zip(passes, latency.of(lengths).T, strict=True):
        table[:, first, last] = column
    return views.timed(table)


def engine_latency(
    model: SharcsForSequenceClassification,
    lengths: np.ndarray,
    passes: Sequence[tuple[int, int]],
    config: CalibrateConfig,
    accelerator: str,
) -> Latency:
    """Time the engine of ``sharcs predict`` behind the tokenizer, one text at a time, on each of the `passes` from a
    first rung to a last."""
    device: Any = device_of(accelerator)
    engine, index = engine_of(model.to(device)), np.zeros(1, np.int64)
    ways = [way_of(first, last, model.ladder.top) for first, last in passes]

    def one_text(number: int, length: int) -> None:
        ids = np.ones((1, length), np.int64)  # the choice of tokens changes no time
        rule, rungs = ways[number]
        engine.with_rule(rule).answer(Batch(index, ids, np.array([length])), rungs)

    return measure_latency(one_text, len(passes), timed_lengths(lengths), config.latency_repeats, config.seed)


def way_of(first: int, last: int, top: int) -> tuple[DecisionRule, np.ndarray | None]:
    """Return a rule, and rungs that override it, by which every text runs from the rung `first` to `last`."""
    if first == last:
        return DecisionRule(), np.array([last])
    stops = (math.inf,) * last + (-math.inf,) * (top - last)
    starts = (NEVER,) * first + (-NEVER,) * (top - first)
    return DecisionRule("router+cascade" if first else "cascade", starts if first else None, stops), None


def split_off(config: CalibrateConfig, views: Views) -> tuple[Views, Views]:
    """Return the texts that choose, and the ones that measure; without ``holdout`` all texts do both."""
    size = len(views.outcomes)
    away = held_out(config, size)
    if config.holdout is None:
        return views, views
    if not 0 < away < size:
        raise ValueError(f"holdout={config.holdout:g} of {size} texts leaves none on one side")
    measuring, choosing = views.split(away, config.seed)
    return choosing, measuring


def choose(config: CalibrateConfig, views: Views, confidence: float) -> tuple[DecisionRule, dict[str, Any]]:
    """Choose the setting; return it and a promise's basis, the number of texts that tested it and its bound."""
    assert config.rule is not None
    averages = (False, True) if config.average is None else (config.average,)
    cascades = Cascades(config.certainty, averages, config.temperatures)
    if config.max_drop is not None:
        if config.rule == "router":
            promise = control(views.outcomes, config.max_drop, confidence, config.seed)
        else:
            promise = control_rule(config.rule, views, config.max_drop, confidence, config.seed, cascades)
        return promise.rule, {"tested": promise.samples, "risk_bound": promise.bound}
    key, target = next(iter(config.dial.items()))
    return setting_within(config.rule, views, target, key, cascades), {}


def measure_points(
    config: CalibrateConfig, model: SharcsForSequenceClassification, views: Views, rule: DecisionRule
) -> list[Row]:
    """Measure the rule of training, the points that the model has, and last the new one."""
    stored = [name for name in (TRAINED, *model.config.operating_points) if name != config.point]
    points = {name: model.config.decision(name) for name in stored}
    return measure_all(points | {config.point: rule}, views, config.confidence)


def origin(config: CalibrateConfig, prepared: EvaluationInputs, choosing: Views, measuring: Views) -> dict[str, Any]:
    """Return the texts behind a point's figures: ``samples`` chose it and, without ``holdout``, measured it too."""
    split, count = choosing.task.validation[0], chose_epoch(config, prepared)
    found = {"task": choosing.task.name, "split": split, "samples": len(choosing.outcomes)}
    if config.holdout is not None:
        found |= {"holdout": config.holdout, "holdout_samples": len(measuring.outcomes)}
    if count:
        found["chose_epoch"] = count
    found |= prepared.serving.told()
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
    chosen_apart = config.max_drop is not None or config.holdout is not None or bound_holds(new.rule.to_point(), {})
    new = replace(new, holds=clean and chosen_apart)
    if config.max_drop is not None and config.holdout is None:
        new = replace(new, holds=True)  # also of texts that chose the epoch, which have paid for it (`confidence_of`)
        new = replace(new, bound=found["risk_bound"])  # that of the texts that tested, not of those that searched
    return [*others, new]


def keep(folder: Path, config: CalibrateConfig, record: dict[str, Any]) -> None:
    """Add the point to the model's ``config.json``, whose other keys stay as they are, and renew the model's card."""
    path = folder / "config.json"
    saved = read_json(path)
    points = {name: old for name, old in saved.get("operating_points", {}).items() if name != config.point}
    saved["operating_points"] = points | {config.point: record}
    if config.default:
        saved["operating_point"] = config.point
    with renewed_card(folder, "the point"):
        write_json(path, saved)


def write_suspects(path: Path, views: Views, rule: DecisionRule, prepared: EvaluationInputs) -> None:
    """Write all texts as ``predictions.tsv`` has them, the least sure answer first."""
    found = decided(views, rule)
    order = certainty_of(views.task.kind, "probability", found.answered()).argsort(stable=True)
    write_predictions(path, found.select(order), views.cost, views.task, prepared.examples[views.task.validation[0]])
    print(f"the texts by how sure the answer is, the least sure first: {display_path(path.absolute())}")


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
