"""After the last epoch: the best weights, the end table and the files of a run directory."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sharcs_pl.analysis.evaluation import Predictions, Report, evaluate
from sharcs_pl.analysis.plots import draw_figures, have_matplotlib
from sharcs_pl.analysis.table import report_table
from sharcs_pl.build import Run
from sharcs_pl.config import RunConfig
from sharcs_pl.core.flops import CostModel


def headline(config: RunConfig, run: Run) -> None:
    """Say what is about to be trained."""
    model, data = run.module.model, run.datamodule
    sizes = [f"{len(data.train_table):,} training samples"]
    sizes += [f"{len(table):,} {name}" for name, table in data.validation_tables.items()]
    widths = f", widths {' '.join(model.ladder.labels())} after layer {model.split_layer}"
    window = f", at full width during the first {config.first_routed_epoch}"
    routed = len(model.ladder) > 1
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    console = Console(highlight=False)
    console.print(f"[bold]{config.method.name}[/] on [bold]{run.task.name}[/]: {', '.join(sizes)}")
    console.print(
        f"encoder {config.encoder.name}: {model.shape.num_layers} layers, {millions:.1f} M parameters" + widths * routed
    )
    console.print(f"{config.trainer.max_epochs} epochs" + window * routed)


def finish(config: RunConfig, run: Run, run_dir: Path) -> dict[str, Any]:
    """Evaluate the best weights, print the table, write the results; returns what ``metrics.json`` holds."""
    found = load_best(run, run_dir / "checkpoints" / "best.ckpt")
    if config.checkpoint.save_best and not found:
        limit = f" within checkpoint.max_macs_fraction={config.checkpoint.max_macs_fraction}"
        budget = limit if config.checkpoint.max_macs_fraction is not None else ""
        Console(stderr=True).print(f"no routed epoch{budget} was completed: the last weights are evaluated")
    run.trainer.validate(run.module, datamodule=run.datamodule, verbose=False)
    report = evaluate(run.module.predictions, run.task, run.module.model.cost, config.seed)
    metrics = report.to_json() | {
        "seed": config.seed,
        "method": config.method.name,
        "encoder": config.encoder.name,
        "epochs": run.trainer.current_epoch,
        "steps": run.trainer.global_step,
    }
    if run.trainer.is_global_zero:
        write_results(run, run_dir, report, metrics)
    return metrics


def load_best(run: Run, path: Path) -> bool:
    """Put the best checkpoint's weights into the module; without one the last weights stay and the answer is False."""
    if not path.exists():
        return False
    run.module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return True


def write_results(run: Run, run_dir: Path, report: Report, metrics: dict[str, Any]) -> None:
    """``metrics.json``, ``predictions.tsv`` and ``model/``, each complete or absent; the table on the screen."""
    write_text(run_dir / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    split = run.task.validation[0]
    write_predictions(
        run_dir / "predictions.tsv", run.module.predictions[split], run.module.model.cost, run.task.labels
    )
    run.module.model.save_pretrained(run_dir / "model")
    run.tokenizer.save_pretrained(run_dir / "model")
    if have_matplotlib() and len(report.rungs) > 1:
        draw_figures(report, run_dir / "plan.csv", run_dir / "figures")
    console = Console()
    console.print(report_table(report))
    console.print(f"results in {run_dir}", soft_wrap=True, highlight=False)


def write_predictions(path: Path, predictions: Predictions, cost: CostModel, labels: tuple[str, ...] | None) -> None:
    """One row per sample: uid, label, prediction, confidence (of the predicted class), rung, MACs."""
    logits, rungs = predictions.routed_logits(), predictions.rungs
    macs = cost.rung_macs(predictions.lengths.numpy())
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["uid", "label", "prediction", "confidence", "rung", "macs"])
        for i, (row, rung) in enumerate(zip(logits, rungs.tolist(), strict=True)):
            if labels is None:
                answer: list[Any] = [f"{predictions.labels[i].item():g}", f"{row[0].item():.4f}", ""]
            else:
                best = int(row.argmax())
                confidence = torch.softmax(row, -1)[best].item()
                answer = [labels[int(predictions.labels[i])], labels[best], f"{confidence:.4f}"]
            writer.writerow([int(predictions.uids[i]), *answer, rung, int(macs[i, rung])])
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write beside, then rename: the file is never half there."""
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)
