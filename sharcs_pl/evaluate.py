"""Evaluate a trained model, or predict a test set: ``sharcs evaluate run=runs/mine split=test``."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.commandline import read_command, user_errors
from sharcs_pl.config import RunConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.written import Written
from sharcs_pl.data.files import listed as enumerated
from sharcs_pl.data.leaderboard import SUBMISSION_NAMES, ZIP_NAME, is_submission
from sharcs_pl.data.tasks import GLUE, Examples, TaskSpec
from sharcs_pl.inputs import read_task
from sharcs_pl.runfiles import FIGURES, results_list
from sharcs_pl.source import Source, load_model, load_tokenizer, open_source, warn_of_seen
from sharcs_pl.train import quiet, shown

if TYPE_CHECKING:
    import lightning as L

    from sharcs_pl.analysis.evaluation import Predictions, Report
    from sharcs_pl.models.routed import SharcsForSequenceClassification


@dataclass(frozen=True)
class Prepared:
    """A source with the data it is evaluated on; no model is loaded yet. `seen`: how many of the texts that count were
    trained on."""

    name: str
    source: Source
    config: RunConfig
    task: TaskSpec
    examples: dict[str, Examples]
    seen: int = 0


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
    if other is not None:
        check_comparable(one, other)
    if config.cost.audit:
        check_audited(one.config)
    check_results(one, config)
    quiet()
    done = evaluate_model(one)
    metrics = present(one, done, config)
    if other is not None:
        compare_with(one, done, other, config)
    if config.cost.audit:
        audit_costs(done)
    return metrics


def results_of(prepared: Prepared, config: EvaluateConfig) -> tuple[Path, Written, list[str]]:
    """The folder of the results, the list of what was written there, and the names to write."""
    folder, listed, trusted = results_list(prepared.source.home, config.output, f"evaluation/{config.split}")
    names = ["metrics.json", "curve.csv", *predictions_names(prepared.task), *(f"figures/{name}" for name in FIGURES)]
    names += ["comparison.json"] if config.compare else []
    if trusted:
        listed = replace(listed, known=frozenset(names))
    return folder, listed, names


def submission_of(prepared: Prepared, config: EvaluateConfig) -> tuple[Path, Written, list[str]] | None:
    """The same of GLUE's submission; None where there is none."""
    if config.split != "test" or prepared.task.name not in GLUE:
        return None
    folder, listed, _ = results_list(prepared.source.home, config.submission, "submission")
    # Those of an older version, which kept no list, are told by their first line.
    known = {path.name for path in folder.glob("*.tsv") if is_submission(path)}
    known |= {ZIP_NAME} if known else set()
    names = [SUBMISSION_NAMES[prepared.task.name, split] for split in prepared.task.validation]
    return folder, replace(listed, known=frozenset(known)), [*names, ZIP_NAME]


def check_results(prepared: Prepared, config: EvaluateConfig) -> None:
    """``ValueError`` when a file of the user's is where a result would go."""
    _, listed, names = results_of(prepared, config)
    listed.check(names)
    submission = submission_of(prepared, config)
    if submission is not None:
        submission[1].check(submission[2], "submission")


def predictions_names(task: TaskSpec) -> list[str]:
    """The predictions of each split, that of the first without its name."""
    return ["predictions.tsv", *(f"predictions_{split}.tsv" for split in task.validation[1:])]


def check_comparable(one: Prepared, other: Prepared) -> None:
    """``ValueError`` unless both are evaluated on the same texts with the same labels, which alone can be paired."""
    if other.task.metric != one.task.metric:
        raise ValueError(f"compare={other.name} was trained on task={other.task.name}, run= on {one.task.name}")
    if other.task.labels != one.task.labels:
        names = [enumerated(x.task.labels) if x.task.labels else "a score" for x in (other, one)]
        raise ValueError(f"compare={other.name} predicts {names[0]}, run= {names[1]}; their order counts (task.labels)")
    split = one.task.validation[0]
    ours, theirs = one.examples[split], other.examples[other.task.validation[0]]
    if ours.texts != theirs.texts:
        seeds = f"{other.config.task.split_seed} there, {one.config.task.split_seed} here"
        raise ValueError(
            f"compare={other.name} is evaluated on other texts: the files differ, or task.split_seed, which draws a "
            f"share task.dev ({seeds})"
        )
    rows = (ours.labels != theirs.labels).nonzero()[0]
    if len(rows):
        raise ValueError(
            f"compare={other.name} is evaluated on other labels: {len(rows):,} of {len(ours):,} texts have another one "
            f"there, the first is row {rows[0]} of the split"
        )


def check_audited(config: RunConfig) -> None:
    """``ValueError`` where the formula alone does not tell the cost."""
    if config.method.widths == "none" or config.method.skim_weight is not None:
        raise ValueError("cost.audit=true counts ladders of widths that run on every token, no exits or skipped tokens")


def prepare(path: str, source: Source, config: EvaluateConfig, split: str | None = None) -> Prepared:
    """Read the texts of ``split``, by default those the config asks for; ``ValueError`` names what is missing or
    damaged."""
    run_config = config.applied_to(source.config)
    splits = splits_of(run_config, config.split) if split is None else [split]
    try:
        task, examples = read_task(run_config.task, splits, run_config.seed)
    except ValueError as error:
        raise ValueError(_asking_for_data(path, str(error))) from error
    source = replace(source, config=run_config)
    seen = warn_of_seen(source, examples)
    return Prepared(path, source, run_config, replace(task, validation=tuple(examples)), examples, seen)


def _asking_for_data(path: str, fault: str) -> str:
    """What is said of data that is not there: moved, or, of a model or a checkpoint alone, never told."""
    moved = re.match(r"(task\.\w+)=.*there is no such file", fault)
    if moved:
        return f"{fault}; give {moved.group(1)}=<where it is now>"
    untold = re.match(r"(task\.\w+) is missing", fault)
    return f"run={path} does not say where its texts are; give {untold.group(1)}=<file>" if untold else fault


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
    from sharcs_pl.build import build_module, build_table, check_accelerator
    from sharcs_pl.data.sampler import eval_loader

    config, task = prepared.config, prepared.task
    if trainer is None:
        check_accelerator(config.trainer.accelerator, "accelerator")
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
    check_answers(prepared, found)
    labelled = found[task.validation[0]].labelled
    return Evaluated(model, found, evaluate(found, task, model.cost, config.seed) if labelled else None)


def check_answers(prepared: Prepared, found: dict[str, Predictions]) -> None:
    """``ValueError`` naming the first text whose answer is no number."""
    for split, predictions in found.items():
        faulty = predictions.faulty()
        if len(faulty):
            texts = f"{len(faulty):,} of the {len(predictions.uids):,} texts of {split}"
            raise ValueError(
                f"run={prepared.name}: the answers to {texts} are not finite, first of row {int(faulty[0]) + 1}; the "
                "model is of no use there: use one whose training has not diverged"
            )


def present(prepared: Prepared, done: Evaluated, config: EvaluateConfig) -> dict[str, Any] | None:
    """The table on the screen and the files of the evaluation."""
    from sharcs_pl.analysis.curves import Curves, write_curve
    from sharcs_pl.analysis.plots import draw_run
    from sharcs_pl.analysis.table import report_table, shares_table
    from sharcs_pl.core.screen import Screen
    from sharcs_pl.results import figure_inputs, report_json, write_predictions

    task, report = prepared.task, done.report
    folder, listed, names = results_of(prepared, config)
    folder.mkdir(parents=True, exist_ok=True)
    listed.claim(names)
    console = Screen()
    metrics = report_json(report, prepared.config) if report else None
    if report:
        console.print(report_table(report, config.split))
        write_json(folder / "metrics.json", metrics)
        first = done.predictions[task.validation[0]]
        curves = Curves(prepared.config.method.name, task.metrics[0], done.model, first)
        write_curve(folder / "curve.csv", curves.rows(prepared.config.seed))
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
    console.print(f"results in {shown(folder.absolute())}", soft_wrap=True)
    return metrics


def submit(prepared: Prepared, done: Evaluated, config: EvaluateConfig) -> None:
    """GLUE's submission files, and the zip of all that the folder holds."""
    from sharcs_pl.analysis.submission import write_submission, zip_submission

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


def compare_with(one: Prepared, done: Evaluated, other: Prepared, config: EvaluateConfig) -> None:
    """Two runs side by side, with a paired bootstrap of the difference."""
    from sharcs_pl.analysis.compare import compare, comparison_table
    from sharcs_pl.core.screen import Screen

    rival = evaluate_model(other)
    a, b = (next(iter(found.predictions.values())) for found in (done, rival))
    costs = (done.model.cost, rival.model.cost)
    found = compare(a, b, one.task.metric, costs, config.draws, one.config.seed)
    comparison = replace(found, positive=one.task.positive)
    Screen().print(comparison_table(comparison, (one.name, other.name)))
    folder, *_ = results_of(one, config)
    write_json(folder / "comparison.json", comparison.to_json())


def audit_costs(done: Evaluated) -> None:
    """The formula's multiply-adds beside those that fvcore counts on the real model."""
    from sharcs_pl.analysis.audit import audit, audit_table
    from sharcs_pl.core.screen import Screen

    lengths = next(iter(done.predictions.values())).lengths.sort().values
    chosen = sorted({int(lengths[0]), int(lengths[len(lengths) // 2]), int(lengths[-1])})
    Screen().print(audit_table(audit(done.model, chosen)))


if __name__ == "__main__":
    main()
