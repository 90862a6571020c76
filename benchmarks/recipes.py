"""The default recipe beside the paper's, dense and fixed widths and early exits, on GLUE; goes on where it was cut.

Run: ``python benchmarks/recipes.py --glue $GLUE``. Each run is one ordinary command, with no key that was tuned for its
task. Beside all-MiniLM-L6-v2, ``--encoder base=FOLDER`` takes another one under a short name. What the table needs,
with the command and the machine, goes to ``benchmarks/results/recipes/<encoder>/<task>/<row>_<seed>/``. A run that is
there is done. ``--report`` trains nothing: it makes ``benchmarks/results/recipes/table.md`` from those files.

Thresholds are chosen and read on different halves of the development texts, except those of the operating points ("in
use"), which training has chosen on texts of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from steps import CPU, Step, machine

from sharcs_pl.analysis.comparison.methods import value_at
from sharcs_pl.core.decision import RULES
from sharcs_pl.core.files import write_text

RESULTS = Path("benchmarks/results/recipes")
FILES = ("metrics.json", "metrics.csv", "curve.csv")
TASKS = {
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
BUDGETS = (0.4, 0.5, 0.6)


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
    step.keep(runs / name, RESULTS / name, FILES, places)


def kept(encoder: str, task: str, row: str, seed: int) -> bool:
    """Return True if the run is done, here or on another machine."""
    return (RESULTS / encoder / task / f"{row}_{seed}" / "run.json").exists()


def seeds_of(encoder: str, task: str, row: str) -> list[int]:
    """Return the seeds whose runs are done."""
    return sorted(int(path.name.rpartition("_")[2]) for path in (RESULTS / encoder / task).glob(f"{row}_[0-9]*"))


def lines(encoder: str, task: str) -> Iterator[list[str]]:
    """Yield the rows of a task: mean over seeds, and the difference to dense of the same seeds, in points."""
    dense = {seed: read(encoder, task, "dense", seed)["routed"]["value"] for seed in seeds_of(encoder, task, "dense")}
    if dense:
        yield [encoder, task, f"dense ({len(dense)})", f"{fmean(dense.values()):.4f}", *[""] * len(BUDGETS)]
    for row in (row for row in ROWS if row != "dense"):
        seeds = seeds_of(encoder, task, row)
        if not seeds:
            continue
        found = {seed: read(encoder, task, row, seed) for seed in seeds}
        curves = {seed: curve(encoder, task, row, seed, found[seed]) for seed in seeds}
        points = {seed: metrics["routed"]["value"] for seed, metrics in found.items()}
        cost = fmean(metrics["routed"]["macs_fraction"] for metrics in found.values())
        yield [encoder, task, f"{row} ({len(seeds)})", f"{cell(points, dense)} at {cost:.2f}", *[""] * len(BUDGETS)]
        for name in sorted({name for each in curves.values() for name in each}):
            read_at = [{seed: value_at(curves[seed].get(name, []), budget) for seed in seeds} for budget in BUDGETS]
            yield [encoder, task, f"{row}, {name}", "", *(cell(values, dense) for values in read_at)]


def read(encoder: str, task: str, row: str, seed: int) -> dict[str, Any]:
    """Return the kept ``metrics.json``."""
    return json.loads((RESULTS / encoder / task / f"{row}_{seed}" / "metrics.json").read_text())


def curve(
    encoder: str, task: str, row: str, seed: int, metrics: dict[str, Any]
) -> dict[str, list[tuple[float, float]]]:
    """Return the (cost, value) points of each rule; those of the rule in use stand under the method's own name."""
    found: dict[str, list[tuple[float, float]]] = {}
    with (RESULTS / encoder / task / f"{row}_{seed}" / "curve.csv").open(newline="") as file:
        for each in csv.DictReader(file):
            method, _, control = each["method"].partition("/")
            name = control or (metrics.get("rule", "router") if method == "sharcs" else "own rule")
            if each["point"].startswith("budget") and (name in (*RULES, "random") or method != "sharcs"):
                found.setdefault(name, []).append((float(each["macs_fraction"]), float(each["value"])))
    return found


def cell(values: dict[int, float | None], dense: dict[int, float]) -> str:
    """Return the mean, and the mean difference to dense with its standard deviation over seeds."""
    known = {seed: value for seed, value in values.items() if value is not None}
    if not known:
        return "-"
    lost = [100 * (value - dense[seed]) for seed, value in known.items() if seed in dense]
    spread = f" ± {stdev(lost):.2f}" if len(lost) > 1 else ""
    return f"{fmean(known.values()):.4f}" + (f" ({fmean(lost):+.2f}{spread})" if lost else "")


def report() -> None:
    """Write and print the table of the runs that are done."""
    head = ["encoder", "task", "row (seeds)", "in use", *(f"at {budget:g} of dense" for budget in BUDGETS)]
    table = [head, ["---"] * len(head)]
    for folder in sorted(path for path in RESULTS.glob("*") if path.is_dir()):
        for task in TASKS:
            table += list(lines(folder.name, task))
    text = "\n".join(f"| {' | '.join(line)} |" for line in table) + "\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / "table.md", text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=Path, help="folder with MRPC/, SST-2/, …; needed to train")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"), help="where the run directories go")
    parser.add_argument("--encoder", default="minilm", help="minilm, or <short name>=<folder> of another encoder")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--report", action="store_true", help="make the table from the kept files and train nothing")
    args: Any = parser.parse_args()
    if not args.report:
        if args.glue is None:
            parser.error("give --glue, the folder with MRPC/, SST-2/, …, or --report")
        print("command:", shlex.join(sys.argv), "machine:", machine(), flush=True)
        encoder, _, place = args.encoder.partition("=")
        jobs = [(task, row, seed) for task in args.tasks for seed in args.seeds for row in args.rows]
        for task, row, seed in jobs:
            if (task != "stsb" or row in FOR_REGRESSION) and not kept(encoder, task, row, seed):
                work(encoder, place or None, task, row, seed, args.glue.resolve(), args.runs.resolve())
    report()


if __name__ == "__main__":
    main()
