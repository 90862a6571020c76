"""A trained model with the texts it is evaluated on, read and checked before a model is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sharcs_pl.config import RunConfig
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.written import Written
from sharcs_pl.data.files import listed as enumerated
from sharcs_pl.data.leaderboard import SUBMISSION_NAMES, ZIP_NAME, is_submission
from sharcs_pl.data.tasks import GLUE, Examples, TaskSpec
from sharcs_pl.inference.parts import is_parts
from sharcs_pl.inference.serving import AS_IT_LIES, Serving
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.runs.files import FIGURES, results_list
from sharcs_pl.runs.inputs import read_task
from sharcs_pl.runs.seen import warn_of_seen


@dataclass(frozen=True)
class EvaluationInputs:
    """A source with the texts it is evaluated on, before its model is loaded; `seen` of them were trained on.
    `serving` is the runtime that answers."""

    name: str
    source: TrainedModel
    config: RunConfig
    task: TaskSpec
    examples: dict[str, Examples]
    seen: int = 0
    serving: Serving = AS_IT_LIES


def results_of(prepared: EvaluationInputs, config: EvaluateConfig) -> tuple[Path, Written, list[str]]:
    """Return the folder of the results, the list of what was written there, and the names to write."""
    folder, listed, trusted = results_list(prepared.source.home, config.output, f"evaluation/{config.split}")
    names = ["metrics.json", "curve.csv", *predictions_names(prepared.task), *(f"figures/{name}" for name in FIGURES)]
    names += ["comparison.json"] if config.compare else []
    if trusted:
        listed = replace(listed, known=frozenset(names))
    return folder, listed, names


def submission_of(prepared: EvaluationInputs, config: EvaluateConfig) -> tuple[Path, Written, list[str]] | None:
    """Return folder, list and names as `results_of` does, for GLUE's submission; None where there is none."""
    if config.split != "test" or prepared.task.name not in GLUE:
        return None
    folder, listed, _ = results_list(prepared.source.home, config.submission, "submission")
    # Those of an older version, which kept no list, are told by their first line.
    known = {path.name for path in folder.glob("*.tsv") if is_submission(path)}
    known |= {ZIP_NAME} if known else set()
    names = [SUBMISSION_NAMES[prepared.task.name, split] for split in prepared.task.validation]
    return folder, replace(listed, known=frozenset(known)), [*names, ZIP_NAME]


def check_results(prepared: EvaluationInputs, config: EvaluateConfig) -> None:
    """Raise ``ValueError`` when a file of the user's is where a result would go."""
    _, listed, names = results_of(prepared, config)
    listed.check(names)
    submission = submission_of(prepared, config)
    if submission is not None:
        submission[1].check(submission[2], "submission")


def predictions_names(task: TaskSpec) -> list[str]:
    """Return the names of the files of predictions; the first split's name is left out of its file's."""
    return ["predictions.tsv", *(f"predictions_{split}.tsv" for split in task.validation[1:])]


def check_comparable(one: EvaluationInputs, other: EvaluationInputs) -> None:
    """Raise ``ValueError`` unless both are evaluated on the same texts with the same labels, as pairing needs."""
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
    alike = ours.labels.shape == theirs.labels.shape
    differ = (ours.labels != theirs.labels).reshape(len(ours), -1).any(1) if alike else np.ones(len(ours), bool)
    rows = np.flatnonzero(differ)
    if len(rows):
        raise ValueError(
            f"compare={other.name} is evaluated on other labels: {len(rows):,} of {len(ours):,} texts have another one "
            f"there, the first is row {rows[0]} of the split"
        )


def check_audited(config: RunConfig, source: TrainedModel) -> None:
    """Raise ``ValueError`` where the formula alone does not tell the cost, or there is no model to count."""
    if is_parts(source.weights):
        raise ValueError(
            f"cost.audit=true counts a model in torch; run={source.weights} holds parts of another runtime"
        )
    if config.method.widths == "none" or config.method.skim_weight is not None:
        raise ValueError("cost.audit=true counts ladders of widths that run on every token, no exits or skipped tokens")


def prepare(path: str, source: TrainedModel, config: EvaluateConfig, split: str | None = None) -> EvaluationInputs:
    """Read the texts of ``split``, by default the config's. Raise ``ValueError`` naming what is missing or damaged."""
    serving = Serving(config.backend, config.precision)
    serving.check(source)
    run_config = config.applied_to(source.config)
    splits = splits_of(run_config, config.split) if split is None else [split]
    try:
        task, examples = read_task(run_config.task, splits, run_config.seed)
    except ValueError as error:
        raise ValueError(_asking_for_data(path, str(error))) from error
    source = replace(source, config=run_config)
    seen = warn_of_seen(source, examples)
    task = replace(task, validation=tuple(examples))
    return EvaluationInputs(path, source, run_config, task, examples, seen, serving)


def _asking_for_data(path: str, fault: str) -> str:
    """Return the message for missing data. It has moved, or a lone model or checkpoint never recorded its place."""
    moved = re.match(r"(task\.\w+)=.*there is no such file", fault)
    if moved:
        return f"{fault}; give {moved.group(1)}=<where it is now>"
    untold = re.match(r"(task\.\w+) is missing", fault)
    return f"run={path} does not say where its texts are; give {untold.group(1)}=<file>" if untold else fault


def splits_of(config: RunConfig, split: str) -> list[str | None]:
    """Return the names of the splits of that kind. MNLI has two of each, and a diagnostic set where its file exists."""
    if split == "validation":
        return [None]
    if config.task.is_custom or config.task.name not in GLUE:
        return ["test"]
    known = GLUE[config.task.name].files
    folder = config.task.data_dir
    names = [name for name in known if name.startswith("test")]
    return [
        n for n in names if n != "test_ax" or folder is None or list(Path(folder).expanduser().glob(f"**/{known[n]}"))
    ]
