"""The results after the last epoch: the best weights, the end table and the files of a run directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import Tensor

from sharcs_pl.analysis.figures.plots import FigureInputs, draw_run
from sharcs_pl.config import RunConfig
from sharcs_pl.config.overrides import override
from sharcs_pl.core.cascade import certainty_of
from sharcs_pl.core.files import atomic_file, atomic_folder, files_below, write_text
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.ladder import Ladder
from sharcs_pl.core.screen import Screen
from sharcs_pl.core.text import printable
from sharcs_pl.core.text_files import CellWriter
from sharcs_pl.data.labels import imbalance_note
from sharcs_pl.data.seen import FILE as SEEN
from sharcs_pl.data.tasks import Examples, TaskSpec
from sharcs_pl.evaluation.curves import Curves, write_curve
from sharcs_pl.evaluation.predictions import Cost, Predictions
from sharcs_pl.evaluation.report import Report, evaluate
from sharcs_pl.evaluation.table import report_table
from sharcs_pl.inference.record import TRAINING
from sharcs_pl.models.folder import check_zip
from sharcs_pl.models.saved import save_model
from sharcs_pl.pipeline.build import Run
from sharcs_pl.pipeline.points import choose_points
from sharcs_pl.runs.card import write_card
from sharcs_pl.runs.card_contents import METRICS
from sharcs_pl.runs.files import PREDICTION_COLUMNS, SEEN_TEXTS, written
from sharcs_pl.training.logging import log_results


def headline(config: RunConfig, run: Run, derived: Mapping[str, Any]) -> None:
    """Say what is about to be trained, with the values that the encoder and the data have decided."""
    model, data = run.module.model, run.datamodule
    sizes = [f"{len(data.train_table):,} training samples"]
    sizes += [f"{len(table):,} {name}" for name, table in data.validation_tables.items()]
    widths = f", {model.describe()}"
    window = f", at full width during the first {config.first_routed_epoch}"
    window += ", whose best goes on" * config.hardness.rewind
    routed = config.method.routed
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    console = Screen()
    task = run.inputs.task
    names = [(printable(name), "bold") for name in (config.method.name, task.name)]
    console.print(Text.assemble(names[0], " on ", names[1], f": {', '.join(sizes)}"))
    note = imbalance_note(run.inputs.examples["train"], task) if config.task.is_custom else None
    if note:
        console.print(note)
    if task.positive is not None:
        console.print(positive_note(config, task))
    console.print(
        f"encoder {config.encoder.name}: {model.shape.num_layers} layers, {millions:.1f} M parameters" + widths
    )
    console.print(f"{config.trainer.max_epochs} epochs" + window * routed)
    if derived:
        shown = " ".join(override(key, value) for key, value in derived.items())
        console.print(f"from the encoder and the data: {shown}", style="dim", soft_wrap=True)


def positive_note(config: RunConfig, task: TaskSpec) -> str:
    """Return a note on the class that f1 is about, and how to make it the other one."""
    assert task.labels is not None
    other = task.labels[0]
    free = config.task.is_custom and config.task.positive is None
    return f"f1 is that of {task.positive}" + (f"; task.positive={other} makes it that of {other}" if free else "")


def finish(config: RunConfig, run: Run, run_dir: Path) -> dict[str, Any]:
    """Evaluate the best weights, print the table, write the results; return the contents of ``metrics.json``."""
    found = load_best(run, run_dir / "checkpoints" / "best.ckpt")
    if config.checkpoint.save_best and not found:
        Screen(stderr=True, soft_wrap=True).print(no_best(config))
    choose_points(config, run)
    run.trainer.limit_val_batches = 1.0  # of whatever the epochs looked at; the table is of all texts
    run.trainer.validate(run.module, datamodule=run.datamodule, verbose=False)
    curves = curves_of(config, run.module.model, run.module.predictions, run.inputs.task)
    report = evaluate(run.module.predictions, run.inputs.task, run.module.model.cost, config.seed)
    report = replace(report, rules=curves.rules())
    epochs, steps = run.datamodule.history.num_epochs, run.trainer.global_step
    metrics = report_json(report, config) | {"epochs": epochs, "steps": steps}
    if run.trainer.is_global_zero:
        write_results(config, run, run_dir, report, metrics, curves)
    return metrics


def curves_of(config: RunConfig, model: Any, found: dict[str, Predictions], task: TaskSpec) -> Curves:
    """Return the operating points of a model on its first validation split."""
    return Curves(config.method.name, task.metrics[0], model, found[task.validation[0]], config.seed)


def no_best(config: RunConfig) -> str:
    """Return why the last weights are evaluated and not the best, and what to change."""
    limit = config.checkpoint.max_macs_fraction
    if limit is None:
        return "no routed epoch was completed: the last weights are evaluated"
    return (
        f"warning: no routed epoch within checkpoint.max_macs_fraction={limit}: the last weights are evaluated. The "
        f"router sends too much to the full width; try batch_size={max(4, config.batch_size // 2)} (more steps), more "
        "epochs or a lower router.threshold"
    )


def report_json(report: Report, config: RunConfig) -> dict[str, Any]:
    """Return the report with the run that it belongs to."""
    return report.to_json() | {"seed": config.seed, "method": config.method.name, "encoder": config.encoder.name}


def load_best(run: Run, path: Path) -> bool:
    """Put the best checkpoint's weights into the module. Return False without one; the last weights then stay."""
    if not path.exists():
        return False
    check_zip(path, "remove it and add ckpt_path=last, and the last weights are evaluated")
    run.module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return True


def write_results(
    config: RunConfig, run: Run, run_dir: Path, report: Report, metrics: dict[str, Any], curves: Curves
) -> None:
    """Write ``metrics.json``, ``predictions.tsv`` and ``model/``, each complete or absent, and print the table."""
    task, module = run.inputs.task, run.module
    split = task.validation[0]
    predictions, examples = module.predictions[split], run.inputs.examples[split]
    write_json(run_dir / METRICS, metrics)
    write_predictions(run_dir / "predictions.tsv", predictions, module.model.cost, task, examples)
    write_curve(run_dir / "curve.csv", curves.rows())
    listed = written(run_dir)
    owned = [name.removeprefix("model/") for name in listed.names() if name.startswith("model/")]
    with atomic_folder(run_dir / "model", owned) as folder:
        save_model(module.model, folder)
        run.tokenizer.model_max_length = config.task.max_length  # where transformers truncates, if asked to
        run.tokenizer.save_pretrained(folder)
        write_text(folder / TRAINING, json.dumps(module.record, indent=2) + "\n")
        write_json(folder / METRICS, metrics)
        if (run_dir / SEEN_TEXTS).is_file():
            shutil.copyfile(run_dir / SEEN_TEXTS, folder / SEEN)
        write_card(folder)
        listed.add(f"model/{name}" for name in files_below(folder))
    inputs = figure_inputs(config, task, module.model.ladder, run_dir, run_dir / "figures")
    figures = draw_run(report, predictions, examples.texts, inputs)
    log_results(run.trainer, metrics, figures)
    console = Screen()
    console.print(report_table(report))
    console.print(f"results in {run_dir}", soft_wrap=True)


def figure_inputs(config: RunConfig, task: TaskSpec, ladder: Ladder, run_dir: Path, folder: Path) -> FigureInputs:
    """Return the inputs of the figures beside the predictions; ``folder`` takes the figures."""
    return FigureInputs(
        folder=folder,
        routed=config.method.routed,
        widths=ladder.labels(),
        plan_csv=run_dir / "plan.csv",
        history=run_dir / "history.parquet",
        bounds=config.width.bounds or (),
        score=config.hardness.score,
        labels=task.labels,
        label_range=task.label_range,
    )


def write_predictions(path: Path, predictions: Predictions, cost: Cost, task: TaskSpec, examples: Examples) -> None:
    """Write one row per sample: uid, label, prediction, confidence (of the predicted class), rung, MACs and texts.

    The file is tab-separated with CSV's quotes, so that any text comes back unchanged; an unknown label is left empty.
    """
    macs = predictions.spent_macs(cost)
    names = [f"text_{name}" if name in PREDICTION_COLUMNS else name for name in task.text_columns]
    with atomic_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = CellWriter(file, "\t")
        writer.write([*PREDICTION_COLUMNS, *names])
        rows = zip(
            predictions.uids.tolist(), _answers(predictions, task.labels), predictions.rungs.tolist(), strict=True
        )
        for (uid, answer, rung), spent in zip(rows, macs, strict=True):
            writer.write([uid, *answer, rung, int(spent), *examples.texts[uid]])


def _answers(predictions: Predictions, labels: tuple[str, ...] | None) -> Sequence[list[str]]:
    """Return label, prediction and confidence of each sample, as text."""
    if predictions.kind.multi_label:
        assert labels is not None
        return _several(predictions, labels)
    logits, truth = predictions.routed_logits(), predictions.labels.tolist()
    hidden = not predictions.labelled
    if labels is None:
        return [
            ["" if hidden else f"{y:g}", f"{row[0]:.4f}", ""] for y, row in zip(truth, logits.tolist(), strict=True)
        ]
    confidence, best = torch.softmax(logits, -1).max(-1)
    rows = zip(truth, best.tolist(), confidence.tolist(), strict=True)
    return [["" if hidden else labels[y], labels[b], f"{c:.4f}"] for y, b, c in rows]


def _several(predictions: Predictions, labels: tuple[str, ...]) -> Sequence[list[str]]:
    """Return the labels, those predicted, both as JSON lists, and the confidence of the least sure label."""
    sure = certainty_of(predictions.kind, "probability", predictions.answered()).tolist()
    truth, found = (_names(marks, labels) for marks in (predictions.labels > 0, predictions.routed_logits() >= 0))
    hidden = not predictions.labelled
    return [["" if hidden else y, x, f"{c:.4f}"] for y, x, c in zip(truth, found, sure, strict=True)]


def _names(marks: Tensor, labels: tuple[str, ...]) -> list[str]:
    rows = ([name for name, given in zip(labels, row, strict=True) if given] for row in marks.tolist())
    return [json.dumps(names, ensure_ascii=False) for names in rows]
