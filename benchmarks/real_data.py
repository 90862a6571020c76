"""SHARCS beside the dense model on real GLUE data with a real encoder, by one script that goes on where it was cut.

Run: ``python benchmarks/real_data.py --glue $GLUE``. Every run is an ordinary ``sharcs_pl.train`` command; its
``metrics.json``, per-epoch curves, command and machine go to ``benchmarks/results/real_data/<name>/``, and a table of
all of them is printed at the end. A finished run is skipped, a cut one goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from steps import CPU, FOLDERS, Step, machine

SST2 = ["task=sst2", "encoder=minilm", "task.max_train_samples=40000"]
CAP = "checkpoint.max_macs_fraction=0.6"
MRPC = ["task=mrpc", "encoder=minilm"]
RUNS: dict[str, tuple[str, list[str]]] = {
    "mrpc_sharcs": ("mrpc", MRPC),
    "mrpc_dense": ("mrpc", [*MRPC, "method=dense", "method.match=$RUNS/mrpc_sharcs"]),
    "sst2_sharcs": ("sst2", SST2),
    "sst2_dense": ("sst2", [*SST2, "method=dense", "method.match=$RUNS/sst2_sharcs"]),
    # Cut earlier, with all rows: for the benchmark of speed. It has no dense run of its own.
    "sst2_split2_sharcs": ("sst2", [*SST2[:2], "width.split_layer=2", "trainer.max_epochs=3", CAP]),
}
KEPT = ("metrics.json", "metrics.csv", "plan.csv")


def run(name: str, glue: Path, runs: Path, results: Path) -> dict[str, Any]:
    """Train one configuration unless it is done; returns its metrics."""
    task, overrides = RUNS[name]
    place = (f"task.data_dir=$GLUE/{FOLDERS[task]}", f"hydra.run.dir=$RUNS/{name}", "ckpt_path=last")
    step, places = Step("train", (*overrides, *CPU, *place)), {"GLUE": glue, "RUNS": runs}
    if not (runs / name / "metrics.json").exists():
        step.run(places)
    step.keep(runs / name, results / name, KEPT, places)
    return json.loads((results / name / "metrics.json").read_text())


def table(found: dict[str, dict[str, Any]]) -> Table:
    """Every run's routed point, its rungs, controls and cost."""
    shown = Table(title="GLUE dev sets, all-MiniLM-L6-v2")
    for column in ("run", "metric", "routed", "of dense MACs", "rungs", "shares", "random", "oracle", "steps"):
        shown.add_column(column)
    for name, m in found.items():
        shown.add_row(
            name,
            m["metric"],
            f"{m['routed']['value']:.4f}",
            f"{m['routed']['macs_fraction']:.3f}",
            " ".join(f"{r['width']:g}:{r['value']:.4f}" for r in m["rungs"]),
            " ".join(f"{r['share']:.2f}" for r in m["rungs"]),
            f"{m['random']['value']:.4f} at {random_cost(m):.3f}",
            f"{m['oracle']['value']:.4f} at {m['oracle']['macs_fraction']:.3f}",
            str(m["steps"]),
        )
    return shown


def random_cost(found: dict[str, Any]) -> float:
    """What the router's shares cost where they are dealt to random samples, of dense."""
    return sum(rung["share"] * rung["macs_fraction"] for rung in found["rungs"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=Path, required=True, help="folder with MRPC/ and SST-2/")
    parser.add_argument("--runs", type=Path, default=Path("runs/real_data"), help="where the run directories go")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/real_data"))
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    args = parser.parse_args()
    print("command:", shlex.join(sys.argv), "machine:", machine())
    found = {name: run(name, args.glue.resolve(), args.runs.resolve(), args.results) for name in args.only}
    Console(width=160).print(table(found))


if __name__ == "__main__":
    main()
