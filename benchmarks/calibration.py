"""Does the budget dial keep its promises? Simulated routers whose risk is known, and a real model on real text.

Run: ``python benchmarks/calibration.py --runs $RUNS/sst2_sharcs --data $GLUE/SST-2``, with runs of ``real_data.py``, or
without ``--runs`` the simulation alone. Raw numbers go to ``benchmarks/results/calibration/results.json``, the tables
to ``table.txt`` beside it.

A simulated population is a finite set of samples, and calibration sets are drawn from it with replacement: so the
population is the distribution, and the risk and the cost of any thresholds are counted on it, not estimated. The best
possible point is the cheapest whose true risk keeps the promise, found with the whole population in view (for three
rungs: among the combinations of a fine grid).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sharcs_pl.analysis.calibration.budget import Dial, Outcomes, scores_of
from sharcs_pl.analysis.calibration.risk import p_value
from sharcs_pl.analysis.calibration.risk_control import control
from sharcs_pl.analysis.calibration.views import Views
from sharcs_pl.core.files import write_text
from sharcs_pl.data.spec import Examples
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs

POPULATION = 100_000
COSTS = {2: (0.38, 1.0), 3: (0.30, 0.55, 1.0)}  # of dense, per rung
BUDGETS = (0.6, 0.7, 0.8)
RESULTS = Path("benchmarks/results/calibration")

# P(narrowest rung wrong where the top is right) at the quantile u of the router's score, 1 the surest.
ROUTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "good": lambda u: 0.3 * (1 - u) ** 2,
    "knows nothing": lambda u: np.full_like(u, 0.05),
    "surest where wrong": lambda u: 0.2 * u**8,
    "good, coarse": lambda u: 0.3 * (1 - u) ** 2,  # whole logits only: many ties
    "a cliff": lambda u: np.where(u > 0.4, 0.001, 0.5),
}


@dataclass(frozen=True)
class Trial:
    """Many calibration sets of one population: the share of broken promises, of sets that supported none (they run at
    full width and break nothing), and the mean cost of the others beside the best possible. `exact`, for two rungs: the
    chance of breaking it in closed form, free of the noise of the draws; midpoints between scores make it a bound."""

    population: str
    rungs: int
    samples: int
    draws: int
    max_drop: float
    confidence: float
    broken: float
    refused: float
    cost: float
    best_cost: float
    exact: float | None = None

    @property
    def efficiency(self) -> float:
        """The share of the possible saving that is had, sets without a point counted as saving nothing."""
        return (1 - self.refused) * (1 - self.cost) / (1 - self.best_cost)


def population(router: str, rungs: int, seed: int, size: int = POPULATION) -> Outcomes:
    """Samples of one kind of router. A wider rung is wrong less often, and the router knows that a little less well."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(size=size)
    sure = np.log(u / (1 - u))
    narrow = range(rungs - 1)
    logits = np.stack([sure + rng.normal(scale=0.5 * i, size=size) + i for i in narrow] + [-sure], 1)
    wrong = np.stack([rng.uniform(size=size) < ROUTERS[router](u) / (1 + 2 * i) for i in narrow], 1)
    quality = np.concatenate([1.0 - wrong, np.ones((size, 1))], 1)
    logits = logits.round() if router == "good, coarse" else logits
    return Outcomes(scores_of(logits), np.tile(COSTS[rungs], (size, 1)), quality)


def trial(name: str, whole: Outcomes, samples: int, draws: int, max_drop: float, confidence: float) -> Trial:
    """Calibrate on `draws` sets of `samples` and judge each point on the whole population."""
    dial, errors = Dial.of(whole), whole.errors
    risks = dial.grid.totals(errors) / len(whole)
    costs, broken = [], 0
    for draw in range(draws):
        rows = np.random.default_rng([draw, samples]).integers(len(whole), size=samples)
        try:
            chosen = np.array(control(whole.select(rows), max_drop, confidence, seed=draw).rule.starts)
        except ValueError:
            continue
        broken += whole.at(errors, chosen).mean() > max_drop + 1e-12
        costs.append(whole.at(whole.costs, chosen).mean())
    best = dial.costs[risks <= max_drop].min()
    mean = float(np.mean(costs)) if costs else float("nan")
    refused = 1 - len(costs) / draws
    return Trial(
        population=name,
        rungs=whole.num_rungs,
        samples=samples,
        draws=draws,
        max_drop=max_drop,
        confidence=confidence,
        broken=float(broken / draws),
        refused=refused,
        cost=mean,
        best_cost=float(best),
        exact=exactly_broken(risks, samples, max_drop, confidence) if whole.num_rungs == 2 else None,
    )


def exactly_broken(risks: np.ndarray, samples: int, max_drop: float, confidence: float) -> float:
    """The chance that the mildest threshold of too high a risk passes; all narrower ones pass only where it does."""
    over = risks[risks > max_drop + 1e-12]
    if not len(over):
        return 0.0
    errors = np.arange(samples + 1)
    passing = errors[p_value(errors, samples, max_drop) <= 1 - confidence]
    return float(p_value(passing.max(), samples, over.min()))


def simulate(draws: int) -> list[Trial]:
    """Every kind of router, two rungs and three, small sets and large."""
    sizes = {2: (500, 2000), 3: (1000, 4000)}
    found = []
    for rungs in (2, 3):
        for number, name in enumerate(ROUTERS):
            whole = population(name, rungs, seed=number)
            for samples in sizes[rungs]:
                found.append(trial(name, whole, samples, draws, max_drop=0.02, confidence=0.9))
                print(found[-1], file=sys.stderr, flush=True)
    return found


def prepared_run(run: str, data: str | None) -> EvaluationInputs:
    """A trained run and its validation texts."""
    from sharcs_pl.config.calibrate import CalibrateConfig, CalibrationPaths
    from sharcs_pl.inference.trained import open_trained
    from sharcs_pl.pipeline.calibrate import prepare_texts
    from sharcs_pl.pipeline.console import silence_libraries

    silence_libraries()
    return prepare_texts(CalibrateConfig(run=run, budget=0.6, task=CalibrationPaths(data_dir=data)), open_trained(run))


def description(prepared: EvaluationInputs) -> dict[str, Any]:
    """What the model is."""
    config = prepared.config
    width = {"multipliers": config.width.multipliers, "split_layer": config.width.split_layer}
    model = {"task": config.task.name, "encoder": config.encoder.name, **width, "seed": config.seed}
    return model | {"epochs": config.trainer.max_epochs, "max_train_samples": config.task.max_train_samples}


def unseen(prepared: EvaluationInputs, size: int) -> EvaluationInputs:
    """The same run with `size` texts of the training file that its `max_train_samples` left out."""
    from sharcs_pl.runs.inputs import read_task

    config = prepared.config
    whole = read_task(replace(config.task, max_train_samples=None), ["train"], config.seed)[1]["train"]
    seen = set(read_task(config.task, ["train"], config.seed)[1]["train"].texts)
    left = [row for row, texts in enumerate(whole.texts) if texts not in seen]
    rows = np.random.default_rng(config.seed).choice(left, size, replace=False)
    split = prepared.task.validation[0]
    return replace(prepared, examples={split: Examples([whole.texts[row] for row in rows], whole.labels[rows])})


def landing(views: Views, budget: float, splits: int) -> dict[str, Any]:
    """A budget set on one half and measured on the other, over many seeded halvings. `noise` is what the draw of two
    halves alone makes of it: the standard deviation of the distance, were the thresholds' true cost the budget."""
    spent, noise = [], []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(views.outcomes))
        half, rest = views.select(order[: len(order) // 2]), views.select(order[len(order) // 2 :])
        thresholds = np.array(Dial.of(half.outcomes).spend(budget, half.metric))
        costs = rest.outcomes.at(rest.outcomes.costs, thresholds)
        narrow = rest.outcomes.rungs(thresholds) == 0
        saving = np.diff(rest.outcomes.costs.mean(0))[0]
        spent.append(costs.mean())
        noise.append(saving * np.sqrt(narrow.mean() * (1 - narrow.mean()) * (1 / len(half.outcomes) + 1 / len(costs))))
    away = np.abs(np.array(spent) - budget)
    return {
        "size": len(views.outcomes),
        "budget": budget,
        "splits": splits,
        "mean": float(np.mean(spent)),
        "noise": float(np.mean(noise)),
        "mean_distance": float(away.mean()),
        "largest_distance": float(away.max()),
        "within_0.03": float((away <= 0.03).mean()),
    }


def trials_table(title: str, trials: list[Trial]) -> Table:
    """One row per population."""
    shown = Table(title=title, title_justify="left")
    columns = ("router", "rungs", "texts", "draws", "max_drop", "confidence", "broken", "exactly")
    for column in (*columns, "refused", "of dense", "best possible", "saving had"):
        shown.add_column(column, justify="left" if column == "router" else "right")
    for t in trials:
        asked = (str(t.rungs), f"{t.samples:,}", f"{t.draws:,}", f"{t.max_drop:g}", f"{t.confidence:g}")
        kept = (f"{t.broken:.1%}", "" if t.exact is None else f"{t.exact:.1%}", f"{t.refused:.1%}")
        shown.add_row(t.population, *asked, *kept, f"{t.cost:.3f}", f"{t.best_cost:.3f}", f"{t.efficiency:.0%}")
    return shown


def machine() -> dict[str, Any]:
    """What this ran on, and with which versions."""
    packages = ("numpy", "scipy", "torch", "transformers")
    return {
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", default=[], help="trained runs of two rungs, for the part on real text")
    parser.add_argument("--data", help="folder of their GLUE task, if it has moved")
    parser.add_argument("--unseen", type=int, default=0, help="also take so many training texts that the runs left out")
    parser.add_argument("--draws", type=int, default=1000, help="calibration sets per simulated population")
    parser.add_argument("--sets", type=int, default=1000, help="calibration sets of real text, and halvings")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    record: dict[str, Any] = {
        "command": command(args),
        "machine": machine(),
        "seeds": "0 up to the number of draws or sets",
    }
    trials = simulate(args.draws)
    record["simulated"] = [asdict(t) | {"efficiency": t.efficiency} for t in trials]
    args.results.mkdir(parents=True, exist_ok=True)
    with (args.results / "table.txt.part").open("w") as file:
        for console in (Console(width=150), Console(file=file, width=150)):
            console.print("command:", record["command"], "\nmachine:", record["machine"], highlight=False)
            console.print(trials_table("Simulated routers of known risk", trials))
        consoles = [Console(width=150), Console(file=file, width=150)]
        record["real"] = {Path(run).name: real(run, args, consoles) for run in args.runs}
    (args.results / "table.txt.part").replace(args.results / "table.txt")
    write_text(args.results / "results.json", json.dumps(record, indent=2) + "\n")


def real(run: str, args: argparse.Namespace, consoles: list[Console]) -> dict[str, Any]:
    """The part on a trained model."""
    from sharcs_pl.pipeline.calibration import answer

    prepared, name = prepared_run(run, args.data), Path(run).name
    views = {"validation": answer(prepared)[1]}
    if args.unseen:
        views["unseen"] = answer(unseen(prepared, args.unseen))[1]
    whole = views["validation"].outcomes
    trials = [trial(name, whole, len(whole), args.sets, drop, 0.9) for drop in (0.01, 0.02, 0.03)]
    landed = [{"texts": kind} | landing(some, budget, args.sets) for kind, some in views.items() for budget in BUDGETS]
    for console in consoles:
        title = f"A trained model on its {len(whole)} validation texts; calibration sets drawn with replacement"
        console.print(trials_table(title, trials))
        console.print(landing_table(f"{name}: a budget set on one half of the texts, spent on the other", landed))
    kept = [asdict(t) | {"efficiency": t.efficiency} for t in trials]
    return {"model": description(prepared), "trials": kept, "budgets": landed}


def landing_table(title: str, landed: list[dict[str, Any]]) -> Table:
    """One row per budget."""
    shown = Table(title=title, title_justify="left")
    for column in landed[0]:
        shown.add_column(column.replace("_", " "), justify="left" if column == "texts" else "right")
    for row in landed:
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return shown


def command(args: argparse.Namespace) -> str:
    """This command, its paths as variables."""
    given = ["--runs", *(f"$RUNS/{Path(run).name}" for run in args.runs)] if args.runs else []
    given += [] if args.data is None else ["--data", f"$GLUE/{Path(args.data).name}"]
    given += ["--unseen", str(args.unseen)] if args.unseen else []
    return " ".join(["python benchmarks/calibration.py", *given, "--draws", str(args.draws), "--sets", str(args.sets)])


if __name__ == "__main__":
    main()
