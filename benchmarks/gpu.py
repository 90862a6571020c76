"""What a GPU does: the answers of a CPU, training steps and routed inference, in a few minutes and without a download.

Run: ``python benchmarks/gpu.py``. With ``--device cpu --shape tiny --steps 4`` it tries itself anywhere in seconds.
The encoder has random weights, its texts random ids.

1. In float32 the answers at each width, by the router and by a cascade are those of the CPU within 1e-4. In bfloat16 a
   text takes another width only where its score is as near to the threshold as twice the rounding on the CPU.
2. ``--steps`` steps in bf16 by the project's module and Lightning's Trainer, half of the texts narrow: samples per
   second, and the share of the chip's peak that their multiply-adds are.
3. The engine beside stock transformers with SDPA, in bfloat16 and in turns: the measured over the promised speed-up.

Everything goes to ``benchmarks/results/gpu/results.json``; the exit code is 1 where the answers are not the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from steps import machine
from torch import Tensor

from sharcs_pl.analysis.benchmark.latency import Clock, race
from sharcs_pl.analysis.benchmark.speed import row
from sharcs_pl.analysis.benchmark.variants import VariantFactory, make_workload, tensors_of
from sharcs_pl.config.bench import SHAPES, BenchConfig
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.plan import PlanConfig
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.data.table import TokenTable
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.benchmark import BenchmarkTarget, processor, untrained
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.training.callbacks import CurveFiles, EpochFractionSchedule, HardnessHistory
from sharcs_pl.training.divergence import StopAtDivergence
from sharcs_pl.training.module import SharcsModule

LARGEST_ERROR = 1e-4  # of float32
NARROW = 0.75  # share of the timed texts at the narrowest width
SECONDS = 20.0  # for the rounds of one batch size
WARMUP = 10  # steps
# Dense bf16 TFLOP/s by what the device's name contains, the longer names first (the vendor's data sheets).
PEAKS = {
    "B200": 2250.0, "H200": 989.0, "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0,
    "L4": 121.0, "A10G": 70.0, "A10": 125.0, "RTX 4090": 165.0,
}  # fmt: skip


def peak(name: str) -> float | None:
    """Return the FLOP/s that a device promises in bf16, None where they are not known."""
    return next((1e12 * tera for key, tera in PEAKS.items() if key in name), None)


def texts(count: int, longest: int, seed: int) -> TokenTable:
    """Return texts of 4 to `longest` tokens, each of a few ids of its own, so that the router tells them apart."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, longest + 1, count)
    ids = np.concatenate([rng.choice(rng.integers(5, 1000, 6), length) for length in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenTable(ids.astype(np.int32), None, offsets, 0, rng.integers(0, 2, count), None)


def target_of(args: argparse.Namespace, device: str, **given: Any) -> BenchmarkTarget:
    """Return the shape's random model, the stock one beside it and samples of full length, on a device."""
    return untrained(BenchConfig(shape=args.shape, length=args.length, device=device, seed=args.seed, **given))


def engine_answers(engine: Engine, batches: Sequence[Batch], rung: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, rungs and the router's logits by the engine's rule, or all at one rung."""
    found = [engine.answer(batch, None if rung is None else np.full_like(batch.index, rung)) for batch in batches]
    whole = Answers.join(found)
    order = whole.index.argsort()
    logits, rungs, scores = (torch.from_numpy(x[order]) for x in (whole.logits, whole.rungs, whole.router_logits))
    return logits, rungs, scores


@torch.inference_mode()
def model_answers(
    model: SharcsForSequenceClassification, batches: Sequence[Batch], rule: DecisionRule
) -> tuple[Tensor, Tensor]:
    """Return logits and rungs of the model's own forward pass by a rule."""
    model.config.operating_points = {"check": rule.to_point()}
    model.set_operating_point("check")
    inputs = [{name: x.to(model.device) for name, x in tensors_of(batch).items()} for batch in batches]
    found = [model(**each) for each in inputs]
    order = torch.from_numpy(np.concatenate([batch.index for batch in batches])).argsort()
    logits, rungs = (torch.cat([getattr(each, name) for each in found]).cpu() for name in ("logits", "rungs"))
    return logits[order], rungs[order]


def correctness(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the device's answers with the CPU's, at each width and by rules that send half of the texts on."""
    table = texts(args.texts, args.length, args.seed)
    batches = make_workload(table, 32, "sorted", labelled=False).batches
    model = target_of(args, "cpu").model
    cpu, there = torch_engine(model), copy.deepcopy(model).to(args.device)  # pyright: ignore[reportCallIssue]
    score = engine_answers(cpu, batches)[2][:, 0]
    sure = engine_answers(cpu, batches, 0)[0].softmax(-1).amax(-1)
    router = DecisionRule(starts=(_middle(score),))
    cascade = DecisionRule("cascade", stops=(_middle(sure),))
    _, rungs, scores = engine_answers(cpu.with_rule(router), batches)
    rounding = _error(engine_answers(torch_engine(model, precision="bfloat16"), batches)[2], scores)
    gaps = (score - _middle(score)).abs()
    found: dict[str, Any] = {"texts": len(table), "score_deviation": float(score.std())}
    for precision, tie in (("float32", LARGEST_ERROR), ("bfloat16", 2 * rounding)):
        other = torch_engine(there, precision=precision).with_rule(router)
        errors = {
            label: _error(*(engine_answers(engine, batches, rung)[0] for engine in (cpu, other)))
            for rung, label in enumerate(model.ladder.labels())
        }
        _, own_rungs, own_scores = engine_answers(other, batches)
        moved = sorted(gaps[own_rungs != rungs].tolist())
        told = {"errors": errors | {"router": _error(own_scores, scores)}, "other_width": len(moved)}
        found[precision] = told | {"score_gaps": moved, "tie": tie, "same": all(gap <= tie for gap in moved)}
    exact = found["float32"]
    exact["errors"]["forward"] = forward_error(model, there, batches, router, gaps)
    exact["errors"]["forward, cascade"] = forward_error(model, there, batches, cascade, (sure - _middle(sure)).abs())
    exact["same"] &= max(exact["errors"].values()) <= LARGEST_ERROR
    return found


def forward_error(
    one: SharcsForSequenceClassification,
    other: SharcsForSequenceClassification,
    batches: Sequence[Batch],
    rule: DecisionRule,
    gaps: Tensor,
) -> float:
    """Return the largest error of the forward pass by a rule; of a text that takes another width, its gap to the
    threshold."""
    (expected, rungs), (logits, others) = (model_answers(model, batches, rule) for model in (one, other))
    return float(torch.where(rungs == others, (logits - expected).abs().amax(-1), gaps).max())


def _middle(values: Tensor) -> float:
    """Return the middle between the two values in the middle, so that none is on it."""
    half = len(values) // 2
    return float(values.sort().values[half - 1 : half + 1].mean())


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


class Rounds(Callback):
    """Callback that times every `steps` steps after the first ones; a device is waited for only there."""

    def __init__(self, device: torch.device, steps: int, skipped: int) -> None:
        self.device, self.steps, self.skipped = device, steps, skipped
        self.seconds: list[float] = []
        self._clock: Clock | None = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        done = trainer.global_step - self.skipped
        if done % self.steps or done < 0:
            return
        if self._clock is not None:
            self.seconds.append(self._clock.seconds())
        self._clock = Clock(self.device)


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Train in bf16, the plan, the history and the curves included, and return the rounds and the speed."""
    model, size, device = target_of(args, "cpu", samples=1).model, args.step_size, torch.device(args.device)
    warmup, every = min(WARMUP, args.steps), max(1, args.steps // 10)
    total = warmup + args.steps
    data = data_of(total * size, size, args)
    rounds = Rounds(device, every, warmup)
    with tempfile.TemporaryDirectory() as folder:
        curves = CurveFiles(Path(folder), model.ladder.labels())
        callbacks = [StopAtDivergence(), EpochFractionSchedule(0.06), curves, HardnessHistory(), rounds]
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed",
            max_epochs=1,
            reload_dataloaders_every_n_epochs=1,
            limit_val_batches=0,
            gradient_clip_val=1.0,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(SharcsModule(model, GLUE["sst2"], seed=args.seed), datamodule=data)
    assert trainer.global_step == total
    macs = size * int(model.cost.rung_macs(np.array([args.length])).sum())  # a batch at each width
    speed = every / float(np.median(rounds.seconds))  # steps per second
    flops = 3 * 2 * macs * speed  # the backward pass costs twice the forward one
    known = peak(torch.cuda.get_device_name()) if device.type == "cuda" else None
    return {
        "precision": "bf16-mixed",
        "batch_size": size,
        "length": args.length,
        "steps": args.steps,
        "steps_per_round": every,
        "seconds": rounds.seconds,
        "samples_per_second": speed * size * len(model.ladder),
        "flops_per_second": flops,
        "peak_flops_per_second": known,
        "share_of_peak": None if known is None else flops / known,
    }


def data_of(samples: int, size: int, args: argparse.Namespace) -> SharcsDataModule:
    """Return so many samples per width, whose scores route half of them to the narrow one from the first epoch on."""
    rng, count = np.random.default_rng(args.seed), 2 * samples
    offsets = np.arange(count + 1, dtype=np.int64) * args.length
    ids = rng.integers(5, 1000, count * args.length, dtype=np.int32)
    table = TokenTable(ids, None, offsets, 0, rng.integers(0, 2, count), None)
    data = SharcsDataModule(table, {}, PlanConfig(size, 2), [(0.5, 1.0), (0.0, 0.4)], window=1, seed=args.seed)
    uids = torch.arange(count)
    data.record(uids, uids % 2 * 0.9, torch.zeros(count), 0)
    data.close_epoch()
    return data


def inference(args: argparse.Namespace, backend: str = "inductor") -> list[dict[str, Any]]:
    """Time the engine beside the stock model batch size by batch size, in as many rounds as the seconds allow."""
    found = []
    for size in args.batch_sizes:
        samples = args.samples if size > 1 else max(1, args.samples // 16)  # a pass of calls takes longer
        target = target_of(args, args.device, precision="bfloat16", batch_sizes=[size], samples=samples)
        factory = VariantFactory(target.model, make_workload(target.table, size, "given", labelled=False), None)
        dealt = factory.dealt(NARROW, args.seed)
        variants = [factory.stock(target.stock)]
        for suffix, compiled in (("", False), (", compiled", True))[: 1 + args.compile]:
            engine = torch_engine(target.model, precision="bfloat16", compile=compiled, compile_backend=backend)
            variants.append(factory.batched(f"{NARROW:.0%} narrow{suffix}", engine, dealt))
            for rung, label in enumerate(target.model.ladder.labels()):
                rungs = np.full(len(factory.workload), rung)
                variants.append(factory.batched(f"all width {label}{suffix}", engine, rungs))
        clock = Clock(torch.device(args.device))
        race(variants, len(factory.workload), repeats=1, warmup=0, seed=args.seed)
        repeats = int(max(3, min(args.rounds, SECONDS / clock.seconds())))
        timed = race(variants, len(factory.workload), repeats, warmup=1, seed=args.seed)
        found += [row(each, factory.workload) | {"length": args.length} for each in timed]
    return found


def device_of(name: str) -> dict[str, Any]:
    """Return what the device is."""
    if name == "cpu":
        return {"device": processor()}
    about = torch.cuda.get_device_properties(0)
    return {"device": about.name, "memory_gib": round(about.total_memory / 2**30, 1), "cuda": torch.version.cuda}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--shape", default="roberta_base", choices=SHAPES)
    parser.add_argument("--steps", type=int, default=200, help="timed training steps")
    parser.add_argument("--step-size", type=int, default=64, help="samples per width and training step")
    parser.add_argument("--texts", type=int, default=128, help="texts whose answers are compared")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1], help="of the timed inference")
    parser.add_argument("--samples", type=int, default=512, help="samples per pass, fewer where batches have one")
    parser.add_argument("--rounds", type=int, default=31, help="most rounds of the timed inference")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="also under torch.compile; on GPUs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu/results.json"))
    args = parser.parse_args(given)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; use --device cpu")
    args.compile = args.device == "cuda" if args.compile is None else args.compile
    silence_libraries()
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/gpu.py", *(sys.argv[1:] if given is None else given)]),
        "versions": {name: version(name) for name in ("torch", "lightning", "transformers")},
        "seed": args.seed,
        "machine": machine() | device_of(args.device),
        "shape": args.shape,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name, part in {"correctness": correctness, "training": training, "inference": inference}.items():
        result[name] = part(args)
        args.out.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps({name: result[name]}, indent=2), flush=True)
    if not all(result["correctness"][precision]["same"] for precision in ("float32", "bfloat16")):
        raise SystemExit("the answers are not those of the CPU: see correctness")


if __name__ == "__main__":
    main()
