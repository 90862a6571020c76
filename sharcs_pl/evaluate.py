"""Evaluate a trained model, or predict a test set: ``sharcs evaluate run=runs/mine split=test``."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.commandline import read_command, user_errors
from sharcs_pl.config import RunConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.files import write_text
from sharcs_pl.data.files import listed
from sharcs_pl.data.tasks import GLUE, Examples, TaskSpec
from sharcs_pl.inputs import read_task
from sharcs_pl.source import Source, load_model, load_tokenizer, open_source
from sharcs_pl.train import quiet, shown

if TYPE_CHECKING:
    import lightning as L

    from sharcs_pl.analysis.evaluation import Predictions, Report
    from sharcs_pl.models.routed import SharcsForSequenceClassification


@dataclass(frozen=True)
class Prepared:
    """A source with the data it is evaluated on; no model is loaded yet."""

    name: str
    source: Source
    config: RunConfig
    task: TaskSpec
    examples: dict[str, Examples]


@dataclass(frozen=True)
class Evaluated:
    """A model's answers on each split; ``report`` is None where the labels are hidden."""

    model: SharcsForSequenceClassification
    predictions: dict[str, Predictions]
    report: Report | None


def main() -> None:
    """The command: one line and exit code 2 for a mistake."""
    with user_errors(EvaluateConfig):
        run(read_command("evaluate", EvaluateConfig, sys.argv[1:]))


def run(config: EvaluateConfig) -> dict[str, Any] | None:
    """Evaluate, print and write; returns what ``metrics.json`` holds, or None where the labels are hidden."""
    sources = [(path, open_source(path)) for path in (config.run, config.compare) if path is not None]
    one, *others = (prepare(path, source, config) for path, source in sources)
    other = others[0] if others else None
    if other is not None and other.task.metric != one.task.metric:
        raise ValueError(f"compare={config.compare} was trained on task={other.task.name}, run= on {one.task.name}")
    if other is not None and other.task.labels != one.task.labels:
        orders = (listed(prepared.task.labels or ("a score",)) for prepared in (other, one))
        raise ValueError("compare={} was trained on the classes {}, run= on {}".format(config.compare, *orders))
    if other is not None and texts_of(one) != texts_of(other):
        seeds = f"{other.config.seed} there, {one.config.seed} here"
        raise ValueError(
            f"compare={config.compare} is evaluated on other texts: the files differ, or the seed (a share task.dev is "
            f"drawn with it: {seeds})"
        )
    if config.cost.audit:
        check_audited(one.config)
    quiet()
    done = evaluate_model(one)
    metrics = present(one, done, config)
    if other is not None:
        compare_with(one, done, other, config)
    if config.cost.audit:
        audit_costs(done)
    return metrics


def check_audited(config: RunConfig) -> None:
    """``ValueError`` where the formula alone does not tell the cost."""
    if config.method.widths == "none" or config.method.skim_weight is not None:
        raise ValueError("cost.audit=true counts ladders of widths that run on every token, no exits or skipped tokens")


def prepare(path: str, source: Source, config: EvaluateConfig) -> Prepared:
    """Read the split's texts; ``ValueError`` names what is missing or damaged."""
    run_config = config.applied_to(source.config)
    try:
        task, examples = read_task(run_config.task, splits_of(run_config, config.split), run_config.seed)
    except ValueError as error:
        found = re.match(r"(task\.\w+)=.*there is no such file", str(error))
        hint = f"; give {found.group(1)}=<where it is now>" if found else ""
        raise ValueError(f"{error}{hint}") from error
    return Prepared(path, source, run_config, replace(task, validation=tuple(examples)), examples)


def texts_of(prepared: Prepared) -> list[tuple[str, ...]]:
    """The texts of the split that counts."""
    return prepared.examples[prepared.task.validation[0]].texts


def splits_of(config: RunConfig, split: str) -> list[str | None]:
    """The names of the splits of that kind; MNLI has two of each, and a diagnostic set where its file is there."""
    if split == "validation":
        return [None]
    if config.task.is_own or config.task.name not in GLUE:
        return ["test"]
    known = GLUE[config.task.name].files
    folder = config.task.data_dir
    names = [name for name in known if name.startswith("test")]
    return [
        n for n in names if n != "test_ax" or folder is None or list(Path(folder).expanduser().glob(f"**/{known[n]}"))
    ]


def evaluate_model(prepared: Prepared, trainer: L.Trainer | None = None) -> Evaluated:
    """Run every rung on every sample, in the way and in the batches of training's own validation.

    ``trainer``: of one process; None makes one from the config.
    """
    import lightning as L

    from sharcs_pl.analysis.evaluation import evaluate
    from sharcs_pl.build import build_module, build_table
    from sharcs_pl.data.sampler import eval_loader

    config, task = prepared.config, prepared.task
    tokenizer, model = load_tokenizer(prepared.source), load_model(prepared.source)
    tables = [build_table(config, examples, tokenizer) for examples in prepared.examples.values()]
    module = build_module(config, task, model)
    trainer = trainer or L.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    loaders = [eval_loader(table, config.eval_batch_size, 0, 1) for table in tables]
    trainer.validate(module, dataloaders=loaders, verbose=False)
    found = module.predictions
    labelled = found[task.validation[0]].labelled
    return Evaluated(model, found, evaluate(found, task, model.cost, config.seed) if labelled else None)


def present(prepared: Prepared, done: Evaluated, config: EvaluateConfig) -> dict[str, Any] | None:
    """The table on the screen and the files of the evaluation."""
    from rich.console import Console

    from sharcs_pl.analysis.curves import Curves, write_curve
    from sharcs_pl.analysis.plots import draw_run
    from sharcs_pl.analysis.table import report_table, shares_table
    from sharcs_pl.results import figure_inputs, report_json, write_predictions

    task, report = prepared.task, done.report
    folder = output_folder(prepared, config)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    metrics = report_json(report, prepared.config) if report else None
    if report:
        console.print(report_table(report, config.split))
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        first = done.predictions[task.validation[0]]
        curves = Curves(prepared.config.method.name, task.metrics[0], done.model, first)
        write_curve(folder / "curve.csv", curves.rows(prepared.config.seed))
    for number, split in enumerate(task.validation):
        name = "predictions.tsv" if number == 0 else f"predictions_{split}.tsv"
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
    console.print(f"results in {shown(folder.absolute())}", soft_wrap=True, highlight=False)
    return metrics


def output_folder(prepared: Prepared, config: EvaluateConfig) -> Path:
    """Where the results go."""
    if config.output:
        return Path(config.output).expanduser()
    return prepared.source.home / "evaluation" / config.split


def submit(prepared: Prepared, done: Evaluated, config: EvaluateConfig) -> None:
    """GLUE's submission files, and the zip of all that the folder holds."""
    from sharcs_pl.analysis.submission import write_submission, zip_submission

    folder = Path(config.submission).expanduser() if config.submission else prepared.source.home / "submission"
    task = prepared.task
    for split, found in done.predictions.items():
        print(write_submission(folder, task, split, found.routed_logits(), found.uids))
    path, missing = zip_submission(folder)
    rest = f"; the leaderboard also asks for {', '.join(missing)}: evaluate those with submission={folder}"
    print(f"{path}{rest if missing else ', complete'}")


def compare_with(one: Prepared, done: Evaluated, other: Prepared, config: EvaluateConfig) -> None:
    """Two runs side by side, with a paired bootstrap of the difference."""
    from rich.console import Console

    from sharcs_pl.analysis.compare import compare, comparison_table

    rival = evaluate_model(other)
    a, b = (next(iter(found.predictions.values())) for found in (done, rival))
    costs = (done.model.cost, rival.model.cost)
    found = compare(a, b, one.task.metric, costs, config.draws, one.config.seed)
    comparison = replace(found, positive=one.task.positive)
    Console().print(comparison_table(comparison, (one.name, other.name)))
    folder = output_folder(one, config)
    write_text(folder / "comparison.json", json.dumps(comparison.to_json(), indent=2) + "\n")


def audit_costs(done: Evaluated) -> None:
    """The formula's multiply-adds beside those that fvcore counts on the real model."""
    from rich.console import Console

    from sharcs_pl.analysis.audit import audit, audit_table

    lengths = next(iter(done.predictions.values())).lengths.sort().values
    chosen = sorted({int(lengths[0]), int(lengths[len(lengths) // 2]), int(lengths[-1])})
    Console().print(audit_table(audit(done.model, chosen)))


if __name__ == "__main__":
    main()
