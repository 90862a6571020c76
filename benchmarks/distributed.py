"""What a second process gains on one machine: the same training on one process and on two, in turn.

Run: ``python benchmarks/distributed.py --rounds 3 task=sst2 encoder=minilm task.data_dir=$GLUE/SST-2``
Takes any training overrides. Each run is a command of its own; timed are its training steps after the first three.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

WARMUP = 3  # steps that are not timed
FIXED = (
    "trainer.enable_progress_bar=false", "checkpoint.save_last=false", "checkpoint.save_best=false",
    "trainer.limit_val_batches=1",
)  # fmt: skip


class StepTimer(Callback):
    """Seconds and samples of the steps after the warm-up, written by the first process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = 0.0
        self.samples = 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == WARMUP:
            self.began = time.perf_counter()
        if trainer.global_step >= WARMUP:
            plan = trainer.train_dataloader.plan
            self.samples += sum(planned.count for planned in plan.step(batch.step))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero:
            seconds = time.perf_counter() - self.began
            self.path.write_text(json.dumps({"seconds": seconds, "samples": self.samples}))


def one(path: Path, steps: int, overrides: list[str]) -> None:
    """One run, in as many processes as the overrides ask for; Lightning starts this command again for the others."""
    from train_step import build_run, config_of, read_inputs

    from sharcs_pl.pipeline.console import silence_libraries

    config = config_of([*FIXED, f"trainer.max_steps={steps}", *overrides])
    silence_libraries()
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(config, read_inputs(config, Path(folder)), Path(folder), [StepTimer(path)])
        run.trainer.fit(run.module, datamodule=run.datamodule)


def measure(devices: int, args: argparse.Namespace, overrides: list[str]) -> float:
    """Samples per second of one run, each process with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // devices)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timed.json"
        line = [sys.executable, __file__, "--steps", str(args.steps), "--one", str(path), *overrides]
        line += [f"trainer.devices={devices}"]
        subprocess.run(line, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        found = json.loads(path.read_text())
    return found["samples"] / found["seconds"]


def command(overrides: list[str]) -> str:
    """The command line, with the data folder as ``$GLUE``."""
    line = " ".join(["python", *sys.argv])
    folders = [Path(text.split("=", 1)[1]).parent for text in overrides if text.startswith("task.data_dir=")]
    return line.replace(str(folders[0]), "$GLUE") if folders else line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/distributed/results.json"))
    args, overrides = parser.parse_known_args()
    if args.one:
        one(args.one, args.steps, overrides)
        return
    rows = []
    for round_ in range(args.rounds):
        order = (1, 2) if round_ % 2 == 0 else (2, 1)
        rates = {devices: measure(devices, args, overrides) for devices in order}
        rows.append({"one_per_s": rates[1], "two_per_s": rates[2], "ratio": rates[2] / rates[1]})
        print(
            "round {}: one process {one_per_s:.1f}, two {two_per_s:.1f} samples/s, {ratio:.3f}x".format(
                round_, **rows[-1]
            )
        )
    ratios = [row["ratio"] for row in rows]
    result = {
        "command": command(overrides),
        "versions": {name: version(name) for name in ("torch", "lightning", "transformers")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "seed": next((int(text[5:]) for text in overrides if text.startswith("seed=")), 1),
        "steps": args.steps,
        "rounds": rows,
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["ratio"]))


if __name__ == "__main__":
    main()
