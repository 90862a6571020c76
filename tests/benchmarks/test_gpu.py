"""The script for GPUs tries itself on a CPU."""

from __future__ import annotations

import copy
import importlib
import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
QUICK = (
    "--device cpu --shape tiny --steps 2 --step-size 2 --texts 24 --length 12 --batch-sizes 4 --samples 8 --rounds 3"
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module, "SECONDS", 0.0)  # the fewest rounds
    return module


def test_it_checks_the_answers_trains_and_times(gpu: Any, tmp_path: Path) -> None:
    gpu.main([*QUICK.split(), "--out", str(tmp_path / "out" / "gpu.json")])
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    parts = ["correctness", "training", "inference"]
    assert list(found) == ["command", "versions", "seed", "machine", "shape", *parts]
    assert found["command"].startswith("python benchmarks/gpu.py --device cpu --shape tiny")
    assert {"device", "cpus", "python"} <= set(found["machine"])
    exact, half = found["correctness"]["float32"], found["correctness"]["bfloat16"]
    assert set(exact["errors"]) == {"0.25", "1", "router", "forward", "forward, cascade"}
    assert set(exact["errors"].values()) == {0.0}, "the device is the CPU itself"
    assert exact["same"]
    assert half["same"]
    assert half["errors"]["router"] > 0
    assert len(half["score_gaps"]) == half["other_width"]
    assert len(found["training"]["seconds"]) == 2
    assert found["training"]["share_of_peak"] is None
    speed = found["training"]["steps_per_round"] / sorted(found["training"]["seconds"])[0]
    assert 0 < found["training"]["samples_per_second"] <= 2 * 2 * speed
    rows = {row["contender"]: row for row in found["inference"]}
    assert list(rows) == ["stock transformers", "75% narrow", "all width 0.25", "all width 1"]
    assert all(len(row["seconds"]) == 3 and row["efficiency"] > 0 for row in rows.values())
    assert rows["all width 0.25"]["macs_fraction"] < rows["75% narrow"]["macs_fraction"] < 1


def test_the_engine_is_timed_compiled_too(gpu: Any) -> None:
    args = Namespace(device="cpu", shape="tiny", seed=1, length=6, batch_sizes=[2], samples=2, rounds=1, compile=True)
    rows = gpu.inference(args, backend="eager")
    assert [row["contender"] for row in rows if "compiled" in row["contender"]] == [
        "75% narrow, compiled", "all width 0.25, compiled", "all width 1, compiled",
    ]  # fmt: skip


def test_other_answers_are_told_and_end_in_an_error(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A device that computes something else: a router whose scores are reversed."""

    def other(model: Any) -> Any:
        copied = copy.deepcopy(model)
        with torch.no_grad():
            copied.router.output.weight.neg_()
        return copied

    monkeypatch.setattr(gpu, "copy", SimpleNamespace(deepcopy=other))
    for part in ("training", "inference"):
        monkeypatch.setattr(gpu, part, lambda args: None)
    with pytest.raises(SystemExit, match="not those of the CPU"):
        gpu.main([*QUICK.split(), "--out", str(tmp_path / "gpu.json")])
    exact = json.loads((tmp_path / "gpu.json").read_text())["correctness"]["float32"]
    assert not exact["same"]
    assert exact["other_width"] == len(exact["score_gaps"]) > 2


@pytest.mark.parametrize(
    ("name", "tera"),
    [("NVIDIA H200", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA L40S", 362), ("NVIDIA L4", 121), ("Tesla K80", None)],
)
def test_the_peak_is_that_of_the_longest_name_that_fits(gpu: Any, name: str, tera: int | None) -> None:
    assert gpu.peak(name) == (None if tera is None else 1e12 * tera)
