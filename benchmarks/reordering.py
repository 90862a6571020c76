"""What reordering gives narrow widths, before training and after, on real GLUE data with a real encoder.

Run: ``python benchmarks/reordering.py --glue $GLUE``. For each task: a dense run; ``sharcs reorder`` of it with its own
weights, with those it started from, and of the pretrained encoder with a fitted head; then a SHARCS run from the
pretrained encoder in its given order and in both new ones, and from the fine-tuned encoder in both orders. Every step
is an ordinary command; a finished one is skipped, a cut run goes on from its last checkpoint. Raw files and commands go
to ``benchmarks/results/reordering/<task>/<step>/``, the table of all of them to ``table.txt`` there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

CPU = ["trainer.precision=bf16-mixed", "encoder.attn_implementation=eager", "trainer.enable_progress_bar=false"]
LADDER = ["width.multipliers=[0.25,0.5,1]", "width.bounds=[[0.8,1],[0.5,1],[0,1]]", "router.threshold=0.7"]
SPLIT = {"mrpc": 4, "sst2": 3}  # the recipes' split layers, for the report before training
FOLDERS = {"mrpc": "MRPC", "sst2": "SST-2"}
ROWS = {"mrpc": [], "sst2": ["task.max_train_samples=20000"]}
KEPT = ("metrics.json", "metrics.csv", "plan.csv", "reorder.json", "importance.parquet", "importance.png")


@dataclass(frozen=True)
class Step:
    """One command: ``sharcs <command> <overrides>``; ``{runs}`` stands for the folder of this task's steps."""

    name: str
    command: str
    overrides: tuple[str, ...]

    def done(self, runs: Path) -> bool:
        return (runs / self.name / ("metrics.json" if self.command == "train" else "reorder.json")).exists()


def routed(name: str, encoder: str | None) -> Step:
    """A SHARCS run, from the pretrained encoder or from a folder."""
    start = [] if encoder is None else [f"encoder.pretrained={{runs}}/{encoder}"]
    return Step(name, "train", ("encoder=minilm", *start, *LADDER))


STEPS = (
    Step("dense", "train", ("encoder=minilm", "method=dense")),
    Step("reordered_trained", "reorder", ("run={runs}/dense",)),
    Step("reordered_pretrained", "reorder", ("run={runs}/dense", "weights=pretrained")),
    Step("reordered_dev", "reorder", ("run={runs}/dense", "split=dev", "samples=null")),
    Step("reordered_fitted_head", "reorder", ("encoder=minilm", "head_steps=300")),
    routed("sharcs_given_order", None),
    routed("sharcs_reordered", "reordered_pretrained"),
    routed("sharcs_reordered_fitted_head", "reordered_fitted_head"),
    # From fine-tuned weights: its own order, and the new one. The first is that run's encoder as it was.
    routed("sharcs_trained_given_order", "dense_encoder"),
    routed("sharcs_trained_reordered", "reordered_trained"),
)


def words(step: Step, task: str, runs: str, glue: str, extra: list[str]) -> list[str]:
    """The command's arguments; the places are given as text, so that a record can name variables."""
    given = [override.format(runs=runs) for override in step.overrides]
    data = [f"task={task}", f"task.data_dir={glue}/{FOLDERS[task]}"]
    if step.command == "train":
        return [*data, *ROWS[task], *given, *CPU, *extra, f"hydra.run.dir={runs}/{step.name}", "ckpt_path=last"]
    rows = [] if step.overrides[0].startswith("run=") else ROWS[task]
    return [*data, *rows, *given, f"width.split_layer={SPLIT[task]}", f"output={runs}/{step.name}"]


def save_encoder(runs: Path) -> None:
    """The dense run's stock encoder with its head, as a checkpoint of its own."""
    if (runs / "dense_encoder" / "config.json").exists():
        return
    from sharcs_pl.core.files import whole_folder
    from sharcs_pl.source import load_model, load_tokenizer, open_source

    source = open_source(str(runs / "dense"))
    encoder: Any = load_model(source).encoder
    with whole_folder(runs / "dense_encoder") as folder:
        for part in (encoder, load_tokenizer(source)):
            part.save_pretrained(folder)


def run(step: Step, task: str, glue: Path, runs: Path, results: Path, extra: list[str]) -> dict[str, Any]:
    """Do one step unless it is done, and keep its files; returns its metrics or its record."""
    module = f"sharcs_pl.{step.command}"
    if not step.done(runs):
        subprocess.run([sys.executable, "-m", module, *words(step, task, str(runs), str(glue), extra)], check=True)
    if step.name == "dense":
        save_encoder(runs)
    target = results / task / step.name
    target.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        if (runs / step.name / file).exists():
            shutil.copy(runs / step.name / file, target / file)
    if step.command == "reorder":  # a record of the place here, which is nobody's business
        record = json.loads((target / "reorder.json").read_text())
        record["run"] = "$RUNS/dense" if record["run"] else None
        (target / "reorder.json").write_text(json.dumps(record, indent=2) + "\n")
    shown = f"python -m {module} {shlex.join(words(step, task, '$RUNS', '$GLUE', extra))}".replace("'", "")
    (target / "run.json").write_text(json.dumps({"command": shown, "machine": machine()}, indent=2) + "\n")
    name = "metrics.json" if step.command == "train" else "reorder.json"
    return json.loads((target / name).read_text())


def machine() -> dict[str, Any]:
    """What the run was made on."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    python = sys.version.split()[0]
    return {"processor": platform.machine(), "cpus": os.cpu_count(), "threads": threads, "python": python}


def untrained(found: dict[tuple[str, str], dict[str, Any]]) -> Table:
    """Narrow widths before any training, given order -> important first."""
    table = Table(title="dev metric (loss) before any training, given order -> important first")
    for column in ("task", "importance by", "full", "cut", "0.25", "0.5"):
        table.add_column(column)
    for (task, name), record in found.items():
        for cut in ("rung", "hidden_kept") if "narrow" in record else ():
            rows = {row["width"]: row for row in record["narrow"] if row["cut"] == cut}
            cells = [
                " -> ".join(
                    f"{rows[w][when]['value']:.4f} ({rows[w][when]['loss']:.3f})" for when in ("before", "after")
                )
                for w in ("0.25", "0.5")
            ]
            table.add_row(task, name.removeprefix("reordered_"), f"{record['full']['value']:.4f}", cut, *cells)
    return table


def trained(found: dict[tuple[str, str], dict[str, Any]]) -> Table:
    """Every run's rungs and its router, after training."""
    table = Table(title="dev metric after training")
    for column in ("task", "run", "0.25", "0.5", "1", "routed", "of dense MACs", "oracle"):
        table.add_column(column)
    for (task, name), m in found.items():
        if "rungs" not in m:
            continue
        values = {f"{rung['width']:g}": f"{rung['value']:.4f}" for rung in m["rungs"]}
        oracle = f"{m['oracle']['value']:.4f} at {m['oracle']['macs_fraction']:.3f}" if m["oracle"] else ""
        cells = [values.get(width, "") for width in ("0.25", "0.5", "1")]
        table.add_row(task, name, *cells, f"{m['routed']['value']:.4f}", f"{m['routed']['macs_fraction']:.3f}", oracle)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=Path, required=True, help="folder with MRPC/ and SST-2/")
    parser.add_argument("--runs", type=Path, default=Path("runs/reordering"), help="where the run directories go")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/reordering"))
    parser.add_argument("--tasks", nargs="*", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--steps", nargs="*", default=[s.name for s in STEPS], choices=[s.name for s in STEPS])
    parser.add_argument("--set", nargs="*", default=[], help="more overrides of the training runs, such as seed=2")
    args = parser.parse_args()
    print("command:", shlex.join(sys.argv), "machine:", machine(), flush=True)
    found = {}
    for task in args.tasks:
        for step in (step for step in STEPS if step.name in args.steps):
            runs = args.runs.resolve() / task
            found[task, step.name] = run(step, task, args.glue.resolve(), runs, args.results, args.set)
    console = Console(width=150, record=True)
    console.print(untrained(found))
    console.print(trained(found))
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "table.txt").write_text(console.export_text())


if __name__ == "__main__":
    main()
