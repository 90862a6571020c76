"""One ONNX graph at every rung: how much faster onnxruntime is when all texts run narrow than when all run wide.

Run: ``python benchmarks/onnx_speed.py``
Random weights of MiniLM's shape (6 layers, hidden 384, 12 heads, feed-forward 1536), one file, one session; only the
operating point differs. The variants take turns in an order drawn anew each round, so that a drift of the machine's
speed hits all alike. With ``--split 3`` half the layers are the trunk and the MACs themselves promise only 1.86 x.
With ``--int8`` the graph in int8 takes part, and all are measured against the widest in float32.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import BertConfig, BertForSequenceClassification

from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.inference.export import export_onnx
from sharcs_pl.inference.onnx_int8 import write_int8
from sharcs_pl.inference.parity import point_of
from sharcs_pl.models.routed import SharcsForSequenceClassification

SHAPE: dict[str, Any] = {
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def build(split: int, widths: list[str], seed: int) -> SharcsForSequenceClassification:
    """A random model of MiniLM's shape."""
    torch.manual_seed(seed)
    encoder = BertForSequenceClassification(BertConfig(vocab_size=30522, **SHAPE))
    return SharcsForSequenceClassification.from_encoder(encoder, widths=widths, split_layer=split, num_labels=2)


def points(model: SharcsForSequenceClassification) -> dict[str, dict[str, np.ndarray]]:
    """The operating points that send every text to one rung, by width, as the graph's inputs."""
    top = model.ladder.top
    rules = [DecisionRule(starts=(NEVER,) * rung + (-NEVER,) * (top - rung)) for rung in range(top + 1)]
    inputs = [{name: x.numpy() for name, x in point_of(rule, top).items()} for rule in rules]
    return {f"all at width {label}": x for label, x in zip(model.ladder.labels(), inputs, strict=True)}


def measure(
    inputs: dict[str, np.ndarray],
    variants: dict[str, tuple[Any, dict[str, np.ndarray]]],
    rounds: int,
    order: random.Random,
) -> dict[str, list[float]]:
    """Seconds of each variant, a session at an operating point, in each round."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for session, point in variants.values():
        session.run(None, inputs | point)
    for _ in range(rounds):
        for name in order.sample(list(variants), len(variants)):
            session, point = variants[name]
            feeds = inputs | point
            began = time.perf_counter()
            session.run(None, feeds)
            found[name].append(time.perf_counter() - began)
    return found


def summary(seconds: dict[str, list[float]], macs: list[int]) -> list[dict[str, Any]]:
    """Medians with their spread, and the speed-up over the top rung in float32, each round against its own, beside the
    MACs'."""
    top = list(seconds.values())[len(macs) - 1]
    rows = []
    for number, (name, times) in enumerate(seconds.items()):
        spent = macs[number % len(macs)]
        quarters = statistics.quantiles(times, n=4)
        ratios = [wide / one for wide, one in zip(top, times, strict=True)]
        rows.append(
            {
                "contender": name,
                "median_s": statistics.median(times),
                "quartiles_s": [quarters[0], quarters[2]],
                "speed_up": statistics.median(ratios),
                "speed_up_quartiles": statistics.quantiles(ratios, n=4)[::2],
                "mac_speed_up": macs[-1] / spent,
                "efficiency": statistics.median(ratios) / (macs[-1] / spent),
                "seconds": times,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", type=int, default=1)
    parser.add_argument("--widths", nargs="+", default=["0.25", "1"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = build(args.split, args.widths, args.seed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    with tempfile.TemporaryDirectory() as folder:
        done = export_onnx(model, Path(folder) / "model.onnx")
        graphs = {"": done.path}
        if args.int8:
            graphs = {" in float32": done.path, " in int8": Path(folder) / "int8.onnx"}
            write_int8(done.path, graphs[" in int8"])
        sessions = {
            name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for name, path in graphs.items()
        }
        int8_bytes = graphs[" in int8"].stat().st_size if args.int8 else None
    variants = {
        f"{width}{name}": (session, point)
        for name, session in sessions.items()
        for width, point in points(model).items()
    }
    rng = np.random.default_rng(args.seed)
    ids = rng.integers(1000, 30000, (args.batch, args.tokens))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    seconds = measure(inputs, variants, args.rounds, random.Random(args.seed))
    macs = model.cost.rung_macs(np.array([args.tokens]))[0].tolist()
    result = {
        "command": f"python benchmarks/onnx_speed.py --split {args.split} --widths {' '.join(args.widths)} "
        f"--batch {args.batch} --tokens {args.tokens} --rounds {args.rounds} --threads {args.threads} "
        f"--seed {args.seed}{' --int8' if args.int8 else ''}",
        "versions": {name: version(name) for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")},
        "machine": {"processor": platform.processor() or platform.machine(), "threads": args.threads},
        "seed": args.seed,
        "shape": SHAPE | {"split_layer": args.split, "widths": args.widths},
        "batch": [args.batch, args.tokens],
        "file": {
            "bytes": done.file_bytes,
            "int8_bytes": int8_bytes,
            "of_parameter_bytes": done.file_bytes / done.parameter_bytes,
            "largest_difference_to_eager": done.difference,
        },
        "rows": summary(seconds, macs),
    }
    name = f"split{args.split}_{args.batch}x{args.tokens}{'_int8' if args.int8 else ''}"
    out = Path(args.out or f"benchmarks/results/onnx/{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    for row in result["rows"]:
        low, high = row["speed_up_quartiles"]
        print(
            f"{row['contender']}: {row['median_s'] * 1000:.0f} ms, {row['speed_up']:.2f} x ({low:.2f} to {high:.2f}), "
            f"its MACs promise {row['mac_speed_up']:.2f} x, efficiency {row['efficiency']:.2f}"
        )


if __name__ == "__main__":
    main()
