"""The default recipe beside the paper's, dense and fixed widths and early exits, on GLUE; goes on where it was cut.

Run: ``python benchmarks/recipes.py --glue $GLUE``. Each run is one ordinary command, with no key that was tuned for its
task. Beside all-MiniLM-L6-v2, ``--encoder base=FOLDER`` takes another one under a short name. What the table needs,
with the command and the machine, goes to ``benchmarks/results/recipes/<encoder>/<task>/<row>_<seed>/``. A run that is
there is done. ``--report`` trains nothing: from those files it makes ``benchmarks/results/recipes/table.md``,
``docs/results.md`` and its figures.

Thresholds are chosen and read on different halves of the development texts, except those of the operating points ("in
use"), which training has chosen on texts of its own.
"""

from __future__ import annotations

from pathlib import Path

from pairs import keep_answers
from recipes_page import RESULTS, report
from steps import CPU, Step, arguments

FILES = ("metrics.json", "metrics.csv", "curve.csv")
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cola": ("CoLA", ()),
    "sst2": ("SST-2", ("task.max_train_samples=20000",)),
    "mrpc": ("MRPC", ()),
    "rte": ("RTE", ()),
    "stsb": ("STS-B", ()),
}
ROWS = {
    "dense": ("method=dense",),
    "default": (),
    "paper": ("recipe=paper",),
    "fixed_025": ("method=fixed", "method.width=0.25"),
    "fixed_05": ("method=fixed", "method.width=0.5"),
    "branchynet": ("method=branchynet",),
    "shallow_deep": ("method=shallow_deep",),
}
FOR_REGRESSION = ("dense", "default", "paper", "fixed_025", "fixed_05")  # the exits stop by confidence


def work(encoder: str, place: str | None, task: str, row: str, seed: int, glue: Path, runs: Path) -> None:
    """Train one run, and keep its figures."""
    name = f"{encoder}/{task}/{row}_{seed}"
    source, extra = TASKS[task]
    words = ("encoder=minilm",) if place is None else ("encoder=custom", "encoder.pretrained=$ENCODER")
    words = (f"task={task}", f"task.data_dir=$GLUE/{source}", *words, *ROWS[row], *extra, *CPU, f"seed={seed}")
    step = Step("train", (*words, f"hydra.run.dir=$RUNS/{name}", "ckpt_path=last"))
    places = {"GLUE": glue, "RUNS": runs} | ({} if place is None else {"ENCODER": Path(place)})
    if not (runs / name / "metrics.json").exists():
        step.run(places)
    keep_answers(runs / name, RESULTS / name)
    step.keep(runs / name, RESULTS / name, FILES, places)


def kept(encoder: str, task: str, row: str, seed: int) -> bool:
    """Return True if the run is done, here or on another machine."""
    return (RESULTS / encoder / task / f"{row}_{seed}" / "run.json").exists()


def main() -> None:
    encoders = "minilm, or <short name>=<folder> of another encoder"
    args = arguments(__doc__, "recipes", {"tasks": TASKS, "rows": ROWS}, (1,), {"encoder": ("minilm", encoders)})
    if not args.report:
        encoder, _, place = args.encoder.partition("=")
        jobs = [(task, row, seed) for task in args.tasks for seed in args.seeds for row in args.rows]
        for task, row, seed in jobs:
            if (task != "stsb" or row in FOR_REGRESSION) and not kept(encoder, task, row, seed):
                work(encoder, place or None, task, row, seed, args.glue, args.runs)
    report()


if __name__ == "__main__":
    main()
