"""What the harness costs: ``Trainer.fit`` against a bare PyTorch loop over the same batches, interleaved.

Run: ``python benchmarks/train_step.py task=sst2 encoder=minilm task.data_dir=$GLUE/SST-2``
Takes any training overrides. Also prints how many token slots an epoch computes against padding to 128.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from torch import nn

from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.data.sampler import PlanLoader
from sharcs_pl.pipeline.build import Run, build_run
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.inputs import read_inputs
from sharcs_pl.training.module import derive_seed
from sharcs_pl.training.objective import batch_losses
from sharcs_pl.training.schedule import linear_warmup_decay

PADDED = 128


def config_of(overrides: list[str]) -> RunConfig:
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = run_config(compose("train", overrides=overrides))
    return config


def bare_loop(run: Run, config: RunConfig, steps: int) -> int:
    """The method without Lightning: the same loader, losses, clipping and optimizer; returns the samples trained."""
    module = run.module
    model = module.model.train()
    optimizer = module.configure_optimizers()
    loader = PlanLoader(run.datamodule.train_table, run.datamodule.plan())
    bf16 = config.trainer.precision == "bf16-mixed"
    samples = 0
    for i, step in enumerate(loader):
        if i == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * linear_warmup_decay(i / steps, config.optim.warmup_fraction)
        loss = torch.zeros(())
        for batch in step.batches:
            torch.manual_seed(derive_seed(config.seed, step.epoch, step.step, batch.slot, 0))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                losses = batch_losses(model, batch, module.objective)
            loss = loss + (losses.task + losses.router + losses.distill) / (batch.count * batch.num_batches)
            samples += batch.count
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.trainer.gradient_clip_val or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
    return samples


def build(config: RunConfig, folder: Path) -> Run:
    """Everything a run is made of."""
    return build_run(config, read_inputs(config, folder), folder)


def fit(config: RunConfig, steps: int) -> float:
    """Seconds of one ``Trainer.fit`` of so many steps, all callbacks, bar and checkpoints included."""
    trainer = replace(
        config.trainer, limit_train_batches=steps, limit_val_batches=1, max_epochs=config.hardness.window + 1
    )
    trainer = replace(trainer, max_steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        run = build(replace(config, trainer=trainer), Path(folder))
        began = time.perf_counter()
        run.trainer.fit(run.module, datamodule=run.datamodule)
        return time.perf_counter() - began


def bare(config: RunConfig, steps: int) -> tuple[float, int]:
    """Seconds and samples of the bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        run = build(config, Path(folder))
        began = time.perf_counter()
        samples = bare_loop(run, config, steps)
        return time.perf_counter() - began, samples


def padding(config: RunConfig) -> dict[str, Any]:
    """Token slots of the first epoch against every sample padded to 128."""
    with tempfile.TemporaryDirectory() as folder:
        data = build(config, Path(folder)).datamodule
    lengths = data.train_table.lengths
    slots = data.plan().token_slots(lengths)
    return {
        "samples": len(lengths),
        "tokens": int(lengths.sum()),
        "slots": slots,
        "of_padding_to_128": slots / (len(lengths) * PADDED),
    }


def command(config: RunConfig) -> str:
    """The command line, with the data folder as ``$GLUE``."""
    line = " ".join(["python", *sys.argv])
    return line.replace(str(Path(config.task.data_dir).parent), "$GLUE") if config.task.data_dir else line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="benchmarks/results/train_step/results.json")
    args, overrides = parser.parse_known_args()
    config = config_of(overrides)
    silence_libraries()
    slots = padding(config)
    bare(config, 5)
    rows = []
    for round_ in range(args.rounds):
        # A B, B A, …: a drift of the machine's speed hits both alike.
        if round_ % 2:
            fitted = fit(config, args.steps)
            alone, samples = bare(config, args.steps)
        else:
            alone, samples = bare(config, args.steps)
            fitted = fit(config, args.steps)
        rows.append({"bare_s": alone, "fit_s": fitted, "ratio": fitted / alone, "bare_samples_per_s": samples / alone})
        print(f"round {round_}: bare {alone:.1f} s, fit {fitted:.1f} s, ratio {fitted / alone:.3f}", flush=True)
    ratios = [row["ratio"] for row in rows]
    result = {
        "command": command(config),
        "versions": {name: version(name) for name in ("torch", "lightning", "transformers")},
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "seed": config.seed,
        "steps": args.steps,
        "rounds": rows,
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "token_slots": slots,
    }
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("ratio", "token_slots", "versions", "machine", "seed")}, indent=2))


if __name__ == "__main__":
    main()
