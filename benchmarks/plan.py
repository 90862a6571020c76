"""Time and memory of an epoch plan, for 10 thousand to 10 million samples.

    python -m benchmarks.plan [--out benchmarks/results/plan] [--sizes 10000,100000] [--rungs 4]

Every size runs in a process of its own, since peak memory (RSS) never falls. Times are seconds, memory is MB (1e6
bytes): "inputs" once the samples exist, "peak" at the end, so that the plan's own share is their difference.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sharcs_pl.core.plan import EpochPlan, PlanConfig, make_plan

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
COLUMNS = ("samples", "steps", "plan_s", "digest_s", "step_us", "padding", "inputs_mb", "peak_mb")
BATCH_SIZE = 32
SEED = 0
SHARE_MULTIPLE = 0.3  # of samples, members of a second rung


def make_inputs(samples: int, rungs: int) -> tuple[np.ndarray, np.ndarray]:
    """Memberships bool [S, W] with uneven buckets, and token lengths int32 [S] with a long tail."""
    generator = np.random.default_rng(SEED)
    memberships = np.zeros((samples, rungs), dtype=np.bool_)
    rows, shares = np.arange(samples), np.arange(1, rungs + 1) / np.arange(1, rungs + 1).sum()
    memberships[rows, generator.choice(rungs, size=samples, p=shares)] = True
    second = rows[generator.random(samples, dtype=np.float32) < SHARE_MULTIPLE]
    memberships[second, generator.integers(rungs, size=len(second))] = True
    lengths = np.minimum(3 + generator.standard_exponential(samples, dtype=np.float32) * 25, 512)
    return memberships, lengths.astype(np.int32)


def measure(samples: int, rungs: int) -> dict[str, Any]:
    """One row, measured in this process."""
    memberships, lengths = make_inputs(samples, rungs)
    inputs_mb = _peak_mb()
    config = PlanConfig(BATCH_SIZE, rungs)
    plan, plan_s = _timed(lambda: make_plan(memberships, lengths, config, seed=SEED, epoch=3))
    _, digest_s = _timed(plan.digest)
    walked = range(0, plan.num_steps, max(1, plan.num_steps // 1000))
    _, walk_s = _timed(lambda: [plan.local(s, 1, rungs) for s in walked])
    return {
        "samples": samples,
        "steps": plan.num_steps,
        "bucket_sizes": plan.bucket_sizes.tolist(),
        "plan_s": round(plan_s, 3),
        "digest_s": round(digest_s, 3),
        "step_us": round(walk_s / len(walked) * 1e6, 1),
        "padding": round(plan.token_slots(lengths) / _tokens(plan, lengths) - 1, 4),
        "inputs_mb": inputs_mb,
        "peak_mb": _peak_mb(),
    }


def main() -> None:
    args = _arguments()
    if args.only:
        print(json.dumps(measure(args.only, args.rungs)))
        return
    rows = [_in_own_process(int(size), args.rungs) for size in args.sizes.split(",")]
    report = {"command": f"python -m benchmarks.plan {' '.join(sys.argv[1:])}".strip(), **_setting(args), "rows": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    print(_table(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of an epoch plan.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan"), help="folder of results.json")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of samples, comma-separated")
    parser.add_argument("--rungs", type=int, default=4)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_own_process(samples: int, rungs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.plan", "--only", str(samples), "--rungs", str(rungs)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _setting(args: argparse.Namespace) -> dict[str, Any]:
    memory_gb = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    return {
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "machine": {
            "system": platform.system(),
            "arch": platform.machine(),
            "cpus": os.cpu_count(),
            "memory_gb": memory_gb,
        },
        "seed": SEED,
        "rungs": args.rungs,
        "batch_size": BATCH_SIZE,
        "fill": PlanConfig.fill,
        "units": {"_s": "seconds", "_us": "microseconds a step and rank", "_mb": "1e6 bytes", "padding": "of tokens"},
    }


def _table(report: dict[str, Any]) -> str:
    heads = [f"{key}: {json.dumps(report[key])}" for key in ("command", "versions", "machine", "seed")]
    rows = [COLUMNS, *([str(row[column]) for column in COLUMNS] for row in report["rows"])]
    return "\n".join([*heads, *("".join(f"{cell:>12}" for cell in row) for row in rows)])


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _tokens(plan: EpochPlan, lengths: np.ndarray) -> int:
    return sum(int(lengths[bucket.order].sum(dtype=np.int64)) for bucket in plan.buckets)


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if platform.system() == "Darwin" else 1024) / 1e6, 1)


if __name__ == "__main__":
    main()
