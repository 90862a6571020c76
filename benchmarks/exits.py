"""Measured time of early exits and of token skimming beside what their multiply-adds promise, as the threshold moves.

Run: ``python benchmarks/exits.py --runs $RUNS/mrpc`` with the run directories of ``benchmarks/comparison.py``. The
model of each answers its validation texts in batches at some of the thresholds of its ``curve.csv``, in turn with its
own stock encoder, which runs every layer on every token. Raw figures and the table go to
``benchmarks/results/exits/<method>.json`` and ``.txt``.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from steps import machine, named

from sharcs_pl.analysis.benchmark.latency import Variant, batch_pass, race
from sharcs_pl.analysis.benchmark.speed import row, speed_table
from sharcs_pl.analysis.benchmark.variants import VariantFactory, Workload, make_workload, tensors_of
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.inference.loading import load_tokenizer
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.saved import load_saved
from sharcs_pl.models.skim import SkimForSequenceClassification
from sharcs_pl.pipeline.build import build_table
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.runs.evaluation_inputs import prepare

METHODS = ("branchynet", "shallow_deep", "deebert", "pabee", "fastbert", "berxit", "skim")
POINTS = 6


def thresholds(run: Path, model: Any) -> list[float]:
    """Some of those that the run swept, from the earliest stop to the last; a skimming model's own."""
    if isinstance(model, SkimForSequenceClassification):
        return list(model.ladder.thresholds)
    with (run / "curve.csv").open(newline="") as file:
        swept = {float(line["threshold"]) for line in csv.DictReader(file) if line["threshold"]}
    found = sorted(swept)
    places = np.linspace(0, len(found) - 1, min(POINTS, len(found))).round().astype(int)
    return [found[place] for place in places]


def variant(model: Any, workload: Workload, metric: str, threshold: float) -> Variant:
    """The model at a threshold; its multiply-adds from the layers or tokens that each text really ran."""
    logits = torch.empty(len(workload), model.shape.num_labels)
    macs = np.empty(len(workload))
    with torch.inference_mode():
        for batch in workload.batches:
            out: Any = model(**tensors_of(batch), threshold=threshold)
            lengths = batch.lengths
            logits[batch.index] = out.logits
            if isinstance(model, SkimForSequenceClassification):
                macs[batch.index] = model.cost.macs(lengths, out.kept.numpy())
            else:
                macs[batch.index] = model.cost.rung_macs(lengths)[np.arange(len(lengths)), out.exits.numpy()]
    assert workload.labels is not None
    return Variant(
        f"threshold {threshold:.3g}",
        lambda: batch_pass(
            workload.batches, lambda batch: model(**tensors_of(batch), threshold=threshold).logits, model.device
        ),
        float(macs.sum() / model.cost.dense_macs(workload.lengths).sum()),
        compute_metric(metric, logits, workload.labels),
    )


def measure(run: Path, args: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """The rows of one run."""
    source = open_trained(str(run))
    found = prepare(str(run), source, EvaluateConfig(run=str(run)))
    model = load_saved(run / "model")
    model.encoder.set_attn_implementation("sdpa")
    table = build_table(found.config, found.examples[found.task.validation[0]], load_tokenizer(source))
    workload = make_workload(table, args.batch_size, "given", labelled=True)
    variants = [VariantFactory(model, workload, None).stock(model.encoder)]
    variants += [variant(model, workload, found.task.metric, value) for value in thresholds(run, model)]
    with torch.inference_mode():
        timed = race(variants, len(workload), args.rounds, 1, args.seed)
    console.print(speed_table(timed, workload, found.task.metric))
    return [row(each, workload) for each in timed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder with a run directory per method")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1, help="of the order within a round")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/exits"))
    args = parser.parse_args()
    silence_libraries()
    args.results.mkdir(parents=True, exist_ok=True)
    command = named(shlex.join(["python", *sys.argv]), {"RUNS": args.runs.parent})
    for method in args.methods:
        console = Console(width=150, record=True)
        console.print(command, versions(), method, sep="\n", highlight=False)
        rows = measure(args.runs / method, args, console)
        record = {"command": command, "machine": versions(), "seed": args.seed, "rows": rows}
        (args.results / f"{method}.json").write_text(json.dumps(record, indent=2) + "\n")
        (args.results / f"{method}.txt").write_text(console.export_text())


def versions() -> dict[str, Any]:
    """The machine, and what does the work."""
    return machine() | {"torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    main()
