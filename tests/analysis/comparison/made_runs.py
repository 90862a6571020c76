"""Run directories as a report reads them, made up."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DENSE = 1_000_000.0


def make_run(
    folder: Path,
    method: str = "sharcs",
    *,
    points: dict[str, list[tuple[float, float]]] | None = None,
    widths: tuple[float, ...] = (0.25, 1.0),
    right: float = 0.8,
    cost: float = 0.5,
    task: str = "mrpc",
    metric: str = "accuracy",
    seed: int = 1,
    samples: int = 60,
    oracle: bool = True,
    settings: dict[str, Any] | None = None,
    dense_macs: float = DENSE,
    bench: bool = False,
    texts: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
) -> Path:
    """`points`: (cost, value) by control, written to ``curve.csv``; the run's own answers are right with probability
    `right`. `texts`, `labels` [S]: None for a text that all share and both classes in turn."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, int(1000 * right)])
    truth = np.arange(samples) % 2 if labels is None else np.array(labels)
    texts = ["a text"] * samples if texts is None else texts
    answers = np.where(rng.random(samples) < right, truth, 1 - truth)
    value = float((answers == truth).mean())
    metrics = {
        "task": task,
        "metric": metric,
        "dense_macs": dense_macs,
        "routed": {"value": value, "macs": cost * dense_macs, "macs_fraction": cost},
        "rungs": [{"width": w, "value": value, "macs": cost * dense_macs, "macs_fraction": cost} for w in widths],
        "oracle": {"value": 0.95, "macs_fraction": 0.45} if oracle else None,
        "seed": seed,
        "method": method,
        "encoder": "minilm",
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / ".hydra").mkdir()
    config = {"seed": seed, "optim": {"lr": 1e-4}, "task": {"name": task}, "method": {"name": method}}
    config |= settings or {}
    (folder / ".hydra" / "run.json").write_text(json.dumps({"digest": "x", "config": config}))
    with (folder / "predictions.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["uid", "label", "prediction", "confidence", "rung", "macs", "sentence"])
        for uid, (label, answer, text) in enumerate(zip(truth, answers, texts, strict=True)):
            writer.writerow([uid, f"class {label}", f"class {answer}", "0.9", 0, int(cost * dense_macs), text])
    if points is not None:
        _write_curve(folder / "curve.csv", method, points, dense_macs)
    if bench:
        row = {
            "contender": "routed", "batch_size": 32, "order": "given", "macs_fraction": cost, "mac_speedup": 1 / cost,
            "speedup": 1.9, "latency_ms": {"p50": 12.3}, "value": value,
        }  # fmt: skip
        (folder / "bench.json").write_text(json.dumps({"rows": [row]}))
    return folder


def _write_curve(path: Path, method: str, points: dict[str, list[tuple[float, float]]], dense: float) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "point", "threshold", "value", "macs", "macs_fraction"])
        for control, found in points.items():
            name = f"{method}/{control}" if control else method
            writer.writerows(
                [name, f"point {i}", "", value, cost * dense, cost] for i, (cost, value) in enumerate(found)
            )
