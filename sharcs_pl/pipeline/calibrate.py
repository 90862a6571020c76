"""The light checks of a calibration, then the import that does the work. Loads no torch.

The texts are answered in float32, as ``sharcs predict`` answers, whatever precision the run was trained in.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from sharcs_pl.analysis.calibration.texts import chose_epoch, confidence_of, held_out, split_of
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.core.decision import BEST, check_certainty, check_rule, rules_of
from sharcs_pl.core.written import Written
from sharcs_pl.inference.trained import TrainedModel, check_served, open_trained
from sharcs_pl.models.folder import read_json
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs, prepare
from sharcs_pl.runs.files import results_list

_MOST_SEEN = 0.02  # largest share of trained-on texts in a promise; official dev sets have up to 1.5 %


def run(config: CalibrateConfig) -> dict[str, Any]:
    """Choose a point, print it beside the model's others and keep it; return what is kept.

    Raise ``ValueError`` where the point is out of reach or cannot be promised; then nothing is kept.
    """
    source = open_trained(config.run)
    folder = model_folder(config, source)
    if config.label_thresholds:
        return run_label_thresholds(config, source, folder)
    figure = check_figure(config, source)
    check_suspects(config)
    prepared = prepare_texts(config, source)
    saved = read_json(folder / "config.json")
    config = replace(config, rule=check_choice(config, prepared, saved))
    if config.cascades:
        config = replace(config, certainty=config.certainty or saved.get("certainty"))
    check_promise(config, prepared, len(saved["widths"]))
    warn_of_choice(config, prepared)
    silence_libraries()
    from sharcs_pl.pipeline.calibration import set_point

    return set_point(config, prepared, folder, figure)


def run_label_thresholds(config: CalibrateConfig, source: TrainedModel, folder: Path) -> dict[str, Any]:
    """Choose the threshold of each label and keep it. Raise ``ValueError`` for a model of one class per text."""
    prepared = prepare_texts(config, source)
    if not prepared.task.multi_label:
        raise ValueError(
            f"label_thresholds=true: run={config.run} gives a text one {'class' if prepared.task.labels else 'score'}; "
            "thresholds of labels are for a task of several (task.multi_label)"
        )
    if read_json(folder / "config.json").get("label_thresholds") and not config.overwrite:
        raise ValueError("label_thresholds=true: the model has thresholds; add overwrite=true to replace them")
    warn_of_choice(config, prepared)
    silence_libraries()
    from sharcs_pl.pipeline.label_thresholds import set_label_thresholds

    return set_label_thresholds(config, prepared, folder)


def model_folder(config: CalibrateConfig, source: TrainedModel) -> Path:
    """Return the folder whose ``config.json`` takes the point. Raise ``ValueError`` where there is none, where the
    model has one width, or where it has the point already."""
    folder = source.weights
    if not Path(config.run).expanduser().exists():
        raise ValueError(
            f"run={config.run} is on the hub: save it in a folder of yours, whose config.json takes the point"
        )
    if not folder.is_dir():
        beside = source.home / "model"
        hint = (
            f"give run={beside}" if (beside / "config.json").is_file() else "give the model/ folder of a finished run"
        )
        raise ValueError(f"run={config.run} is a checkpoint, in which no point can be kept; {hint}")
    saved = read_json(folder / "config.json")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"run={config.run}: {folder} cannot be written to")
    if config.label_thresholds:
        return folder
    check_served(saved, folder)
    if len(saved.get("widths", ())) < 2:
        raise ValueError(
            f"run={config.run} is a model of one width: there is no rule to set; give one of several widths"
        )
    if config.point in saved.get("operating_points", {}) and not config.overwrite:
        raise ValueError(f"name={config.point}: the model has this point; add overwrite=true, or another name=")
    return folder


def check_choice(config: CalibrateConfig, prepared: EvaluationInputs, saved: dict[str, Any]) -> str:
    """Return the rule to set. Raise ``ValueError`` where the model cannot have it."""
    has_router, widths = bool(saved.get("router_hidden_size", 1)), len(saved["widths"])
    name = config.rule or ("router" if has_router else "cascade")
    regression = not prepared.task.kind.has_classes
    if regression and config.suspects is not None:
        raise ValueError(f"suspects={config.suspects} lists answers by class probability, which a regression lacks")
    if regression and config.temperatures:
        raise ValueError("temperatures=true fits class probabilities, which a regression lacks")
    if prepared.task.multi_label and config.temperatures:
        raise ValueError("temperatures=true fits probabilities of which one is right; this task has several labels")
    given = {"temperatures": config.temperatures or None, "certainty": config.certainty, "average": config.average}
    unread = [f"{key}={value}".lower() for key, value in given.items() if value is not None and name == "router"]
    if unread:
        raise ValueError(f"{unread[0]} is about the answers of a cascade; give rule=cascade, router+cascade or best")
    if config.certainty is not None:
        check_certainty(config.certainty, 1 if regression else 2)
    known = rules_of(widths, has_router, 1 if regression else 2)
    if name != BEST:
        check_rule(name, widths, has_router)
    if not known or (name != BEST and name not in known):
        raise ValueError(f"rule={name}: a regression compares two widths before it stops, so it needs three of them")
    return name


def check_figure(config: CalibrateConfig, source: TrainedModel) -> tuple[Path, Written]:
    """Return the folder of the figure and the list of what was written there. Raise ``ValueError`` when a file of the
    user's is where the figure would go."""
    folder, listed, trusted = results_list(source.home, config.output, "calibration")
    listed = replace(listed, known=frozenset([f"{config.point}.png"])) if trusted else listed
    listed.check([f"{config.point}.png"])
    return folder, listed


def check_suspects(config: CalibrateConfig) -> None:
    """Raise ``ValueError`` unless the list of the least sure texts can be written."""
    if config.suspects is None:
        return
    path, given = Path(config.suspects).expanduser(), f"suspects={config.suspects}"
    if path.suffix != ".tsv":
        raise ValueError(f"{given} must end with .tsv, the one format of this list")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{given}: there is no folder {path.absolute().parent}")
    if path.is_dir() or (path.exists() and not config.overwrite):
        raise ValueError(f"{given} is there already; add overwrite=true, or give another name")


def prepare_texts(config: CalibrateConfig, source: TrainedModel) -> EvaluationInputs:
    """Return the texts to calibrate on, to be answered in float32."""
    prepared = prepare(config.run, source, config.evaluation(), split_of(config, source.config))
    trainer = replace(prepared.config.trainer, precision="32-true")
    return replace(prepared, config=replace(prepared.config, trainer=trainer))


def check_promise(config: CalibrateConfig, prepared: EvaluationInputs, num_rungs: int) -> None:
    """Raise ``ValueError`` where ``max_drop`` can be refused before any text is answered."""
    if config.max_drop is None:
        return
    if not prepared.task.kind.has_classes:
        raise ValueError(
            f"max_drop={config.max_drop:g} is about answers that are right or wrong, and {prepared.task.name} is a "
            "regression; give budget= or latency_ms="
        )
    from sharcs_pl.analysis.calibration.risk import check_enough

    size = len(prepared.examples[prepared.task.validation[0]])
    if prepared.seen > _MOST_SEEN * size:
        raise ValueError(
            f"max_drop={config.max_drop:g} cannot be promised: {prepared.seen:,} of the {size:,} texts were trained "
            "on; give texts that the model has not seen: task.dev=<file>"
        )
    level = confidence_of(config, prepared)
    if config.rule == "router":
        try:
            check_enough(size - held_out(config, size), num_rungs, config.max_drop, level)
        except ValueError as error:
            models = prepared.source.config.candidate_models
            note = f"; the texts chose among {models} candidates, which divide the level of {config.confidence:g}"
            raise ValueError(f"{error}{note * (level != config.confidence)}") from error


def warn_of_choice(config: CalibrateConfig, prepared: EvaluationInputs) -> None:
    """Warn where texts chose the epoch too, since they flatter the model that they chose."""
    count = chose_epoch(config, prepared)
    if not count:
        return
    from sharcs_pl.core.screen import Screen

    size, models = len(prepared.examples[prepared.task.validation[0]]), prepared.source.config.candidate_models
    which = "these texts" if count == size else f"{count:,} of these {size:,} texts"
    promise = "what is measured on them flatters"
    if config.max_drop is not None:
        level = confidence_of(config, prepared)
        promise = f"max_drop={config.max_drop:g} is tested with confidence {level:.4g}, {models} times as strictly"
    Screen(stderr=True, soft_wrap=True).print(
        f"warning: {which} chose the best of {models} candidates, so {promise}. Give other labelled texts as "
        "task.dev=<file>, or train with task.calibration=0.1, which keeps some that choose nothing"
    )
