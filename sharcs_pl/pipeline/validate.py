"""Evaluate a trained model: every rung on every text, the table, the files, a comparison and an audit of the cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import lightning as L

from sharcs_pl.analysis.figures.plots import draw_run
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.screen import Screen
from sharcs_pl.data.sampler import eval_loader, feeding
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.audit import audit, audit_table
from sharcs_pl.evaluation.compare import compare, comparison_table
from sharcs_pl.evaluation.curves import write_curve
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import Report, evaluate
from sharcs_pl.evaluation.submission import write_submission, zip_submission
from sharcs_pl.evaluation.table import report_table, shares_table
from sharcs_pl.inference.backend_model import BackendModel, load_served
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.parts import is_parts
from sharcs_pl.inference.runtimes import TORCH
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.build import build_module, build_table
from sharcs_pl.pipeline.console import display_path
from sharcs_pl.pipeline.devices import check_accelerator, device_of
from sharcs_pl.pipeline.results import curves_of, figure_inputs, report_json, write_predictions
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs, predictions_names, results_of, submission_of


@dataclass(frozen=True)
class Evaluated:
    """The answers of a model on each split; ``report`` is None where the labels are hidden."""

    model: SharcsForSequenceClassification
    predictions: dict[str, Predictions]
    report: Report | None


def evaluate_model(prepared: EvaluationInputs, trainer: L.Trainer | None = None) -> Evaluated:
    """Run every rung on every sample, in the way and in the batches of training's own validation.

    ``trainer`` must run one process; None makes one from the config.
    """
    config, task = prepared.config, prepared.task
    accelerator = config.trainer.accelerator if in_torch(prepared) else "cpu"
    if trainer is None:
        check_accelerator(accelerator, "accelerator")
    tokenizer, model = load_tokenizer(prepared.source), load_answering(prepared)
    served = isinstance(model, BackendModel)
    tables = [build_table(config, examples, tokenizer) for examples in prepared.examples.values()]
    module = build_module(config, task, model)
    trainer = trainer or L.Trainer(
        accelerator="cpu" if served else accelerator,  # what answers has its own device and precision
        devices=1,
        precision="32-true" if served else config.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    fed = feeding(trainer.strategy.root_device, config.trainer.num_workers)
    loaders = [eval_loader(table, config.eval_batch_size, 0, 1, **fed) for table in tables]
    trainer.validate(module, dataloaders=loaders, verbose=False)
    found = module.predictions
    check_answers(prepared, found)
    labelled = found[task.validation[0]].labelled
    return Evaluated(model, found, evaluate(found, task, model.cost, config.seed) if labelled else None)


def load_answering(prepared: EvaluationInputs) -> Any:
    """Load the model as training left it, or behind the runtime that is asked for."""
    source, serving = prepared.source, prepared.serving
    if not (serving.asked or is_parts(source.weights)):
        return load_model(source)
    return load_served(source, serving, device_of(prepared.config.trainer.accelerator) if in_torch(prepared) else "cpu")


def in_torch(prepared: EvaluationInputs) -> bool:
    """Return True if the answers come from torch; other runtimes run on the CPU."""
    return prepared.serving.backend in (None, TORCH) and not is_parts(prepared.source.weights)


def check_answers(prepared: EvaluationInputs, found: dict[str, Predictions]) -> None:
    """Raise ``ValueError`` naming the first text whose answer is no number."""
    for split, predictions in found.items():
        faulty = predictions.faulty()
        if len(faulty):
            texts = f"{len(faulty):,} of the {len(predictions.uids):,} texts of {split}"
            raise ValueError(
                f"run={prepared.name}: the answers to {texts} are not finite, first of row {int(faulty[0]) + 1}; the "
                "model is of no use there: use one whose training has not diverged"
            )


def present(prepared: EvaluationInputs, done: Evaluated, config: EvaluateConfig) -> dict[str, Any] | None:
    """Print the table and write the files of the evaluation."""
    task = prepared.task
    curves = curves_of(prepared.config, done.model, done.predictions, task)
    report = done.report and replace(done.report, rules=curves.rules())
    folder, listed, names = results_of(prepared, config)
    folder.mkdir(parents=True, exist_ok=True)
    listed.claim(names)
    console = Screen()
    metrics = report_json(report, prepared.config) | prepared.serving.told() if report else None
    if report:
        console.print(report_table(report, config.split))
        write_json(folder / "metrics.json", metrics)
        write_curve(folder / "curve.csv", curves.rows())
    for name, split in zip(predictions_names(task), task.validation, strict=True):
        write_predictions(folder / name, done.predictions[split], done.model.cost, task, prepared.examples[split])
        if not report:
            console.print(shares_table(task.name, split, done.predictions[split], done.model.cost))
    if report:
        run_dir = prepared.source.home
        split = task.validation[0]
        inputs = figure_inputs(prepared.config, task, done.model.ladder, run_dir, folder / "figures")
        draw_run(report, done.predictions[split], prepared.examples[split].texts, inputs)
    if config.split == "test" and task.name in GLUE:
        submit(prepared, done, config)
    console.print(f"results in {display_path(folder.absolute())}", soft_wrap=True)
    return metrics


def submit(prepared: EvaluationInputs, done: Evaluated, config: EvaluateConfig) -> None:
    """Write GLUE's submission files, and the zip of all that the folder holds."""
    claimed = submission_of(prepared, config)
    assert claimed is not None
    folder, listed, names = claimed
    listed.claim(names, "submission")
    task = prepared.task
    for split, found in done.predictions.items():
        print(write_submission(folder, task, split, found.routed_logits(), found.uids))
    path, missing = zip_submission(folder)
    rest = f"; the leaderboard also asks for {', '.join(missing)}: evaluate those with submission={folder}"
    print(f"{path}{rest if missing else ', complete'}")


def compare_with(one: EvaluationInputs, done: Evaluated, other: EvaluationInputs, config: EvaluateConfig) -> None:
    """Compare two runs side by side, with a paired bootstrap of the difference."""
    rival = evaluate_model(other)
    a, b = (next(iter(found.predictions.values())) for found in (done, rival))
    costs = (done.model.cost, rival.model.cost)
    found = compare(a, b, one.task.metric, costs, config.draws, one.config.seed)
    comparison = replace(found, positive=one.task.positive)
    Screen().print(comparison_table(comparison, (one.name, other.name)))
    folder, *_ = results_of(one, config)
    write_json(folder / "comparison.json", comparison.to_json())


def audit_costs(done: Evaluated) -> None:
    """Print the formula's multiply-adds beside the counts of fvcore on the real model."""
    lengths = next(iter(done.predictions.values())).lengths.sort().values
    chosen = sorted({int(lengths[0]), int(lengths[len(lengths) // 2]), int(lengths[-1])})
    Screen().print(audit_table(audit(done.model, chosen)))
