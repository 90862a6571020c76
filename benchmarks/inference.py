"""Measured speed of routed inference beside what its multiply-adds promise: named shapes, then trained models on GLUE.

Run: ``python benchmarks/inference.py --runs $RUNS --glue $GLUE`` with the run directories of
``benchmarks/real_data.py``. Every part is one ``sharcs bench`` command; its figures, table and plot go to
``benchmarks/results/inference/<name>/``. A part that is there is skipped: remove its folder to measure it again.
Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from steps import named

SHAPES: dict[str, list[str]] = {
    "roberta_32x128": ["shape=roberta_base", "batch_sizes=[32]", "length=128", "samples=128", "repeats=7", "warmup=1"],
    "roberta_32x32": ["shape=roberta_base", "batch_sizes=[32]", "length=32", "samples=256", "repeats=9", "warmup=1"],
    "roberta_1x128": ["shape=roberta_base", "batch_sizes=[1]", "length=128", "samples=12", "repeats=15"],
    "minilm_32x128": ["shape=minilm", "batch_sizes=[32]", "samples=128", "onnx=true", "shared_slices=true"],
    "minilm_32x32": ["shape=minilm", "batch_sizes=[32]", "length=32", "samples=512"],
    "minilm_1x128": ["shape=minilm", "batch_sizes=[1]", "length=128", "samples=48", "repeats=15", "onnx=true"],
}  # fmt: skip
REAL = ["batch_sizes=[32]", "order=[given,sorted]", "samples=256", "repeats=5", "warmup=1"]
TRAINED: dict[str, tuple[str, str, str]] = {
    "sst2": ("sst2_sharcs", "sst2_dense", "SST-2"),
    "sst2_split2": ("sst2_split2_sharcs", "sst2_dense", "SST-2"),
    "mrpc": ("mrpc_sharcs", "mrpc_dense", "MRPC"),
}


def measure(name: str, overrides: list[str], results: Path, places: dict[str, Path]) -> None:
    """One part, unless it is there; ``places``, by the names under which the record shows them."""
    folder = results / name
    if (folder / "bench.json").exists():
        print(f"{name}: measured already")
        return
    part = results / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "sharcs_pl.bench", *overrides, f"output={part}"], check=True)
    for file in (part / "bench.json", part / "table.txt"):
        text = file.read_text(encoding="utf-8").replace(f" output={part}", "").replace(f" in {part}", "")
        file.write_text(named(text, places), encoding="utf-8")
    part.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="run directories, named as in benchmarks/real_data.py")
    parser.add_argument("--glue", type=Path, help="folder with SST-2/ and MRPC/")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/inference"))
    parser.add_argument("--only", nargs="*", default=[*SHAPES, *TRAINED], choices=[*SHAPES, *TRAINED])
    parser.add_argument("--points", default="[trained]", help="operating points of the trained models")
    args = parser.parse_args()
    for name in args.only:
        if name in SHAPES:
            measure(name, SHAPES[name], args.results, {})
        elif args.runs and args.glue:
            run, dense, task = TRAINED[name]
            given = [f"run={args.runs / run}", f"dense={args.runs / dense}", f"task.data_dir={args.glue / task}"]
            places = {"RUNS": args.runs, "GLUE": args.glue}
            measure(name, [*given, f"point={args.points}", *REAL], args.results, places)
        else:
            print(f"{name}: give --runs and --glue to measure it", file=sys.stderr)


if __name__ == "__main__":
    main()
