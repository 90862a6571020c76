"""What ``recipes.py`` found: the long table, and the page and figures of the docs, from the kept files alone.

A *reading* is what a row of the table gives on a task at a budget: the value of each seed. Rows of the page are runs
read by one rule, and pairs of runs. The last epoch of a dense model shows how much of its value is the luck of the best
of several epochs on these texts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pairs import pair_points
from steps import table

from sharcs_pl.analysis.comparison.figures import look
from sharcs_pl.analysis.comparison.methods import frontier, value_at
from sharcs_pl.analysis.figures.style import GREY, canvas
from sharcs_pl.core.decision import RULES
from sharcs_pl.core.files import write_text

RESULTS = Path("benchmarks/results/recipes")
PAGE, IMAGES = Path("docs/results.md"), Path("docs/images/results")
BUDGETS = (0.4, 0.5, 0.6)
GRID = tuple(x / 20 for x in range(5, 21))  # budgets of a pair's curve
TITLES = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "rte": "RTE", "stsb": "STS-B"}
CLASSIFICATION = ("cola", "sst2", "mrpc", "rte")
SEVERAL = ("default", "paper")  # recipes whose one model several rules can read
ROWS = ("default", "paper", "fixed_025", "fixed_05", "branchynet", "shallow_deep")
PAIRS = {"pair_025": "fixed_025", "pair_05": "fixed_05"}
NAMES = {
    "default": "`recipe=default`, as trained",
    "default, cascade": "`recipe=default`, cascade",
    "default, router": "`recipe=default`, router",
    "default, router+cascade": "`recipe=default`, both",
    "default, random": "`recipe=default`, widths by chance",
    "default, full": "`recipe=default`, full width for all",
    "paper, router": "`recipe=paper`, router",
    "fixed_025": "fixed width 0.25",
    "fixed_05": "fixed width 0.5",
    "branchynet, own rule": "BranchyNet",
    "shallow_deep, own rule": "Shallow-Deep",
    "pair_025": "pair: fixed width 0.25, then dense",
    "pair_05": "pair: fixed width 0.5, then dense",
}
LAST = "dense, its last epoch"
POINTS = ("default", "default, full", "fixed_025", "fixed_05")  # read at their own cost
Readings = dict[int, float | None]

HEAD = """# Results

`recipe=default` takes no key that was tuned for a task. The table compares it with dense models, the paper's setting,
fixed widths, early exits, and pairs of separate models. Every run is one ordinary command, which
`benchmarks/results/recipes` holds beside its figures; `python benchmarks/recipes.py --glue $GLUE` trains what is
missing, and with `--report` it writes this page.

**How to read it.** The metric is accuracy, on CoLA Matthews' correlation and on STS-B Pearson's; SST-2 trains on 20,000
rows. A cell is the difference to the dense model of the same seed in points, with the standard deviation over seeds
where there are several. `at` is the cost as a fraction of dense multiply-adds; a row without it is read at the budget
of the table's head. Thresholds are chosen on one half of the development texts and read on the other, except in the
row `as trained`: its thresholds were chosen in training, on texts that neither trained a weight nor chose an epoch. A
dense model keeps the epoch that is best on the same texts; `its last epoch` shows how much of its value is that choice.
`pair` runs a small model and hands on what it is not sure of to a dense one, without a shared trunk. `-` was not run.
"""


HELD_OUT = """## Data sets that no one tuned for

`python benchmarks/held_out.py --glue $GLUE` makes three data sets of 4,000 training and 1,000 development texts:
`corpora` (which of five GLUE tasks a sentence comes from), `docstrings` (which of five libraries one comes from) and
`noisy` (reviews of which a fifth have the wrong label). Each is trained by one command, with MiniLM and no other key.
In parentheses stands the difference to dense in points.
"""


def report() -> None:
    """Write the long table, the page and its figures, and print the table."""
    encoders = sorted(path.name for path in RESULTS.glob("*") if path.is_dir())
    head = ["encoder", "task", "row (seeds)", "in use", *(f"at {each:g} of dense" for each in BUDGETS)]
    long = table([head, *(line for encoder in encoders for task in TITLES for line in _lines(encoder, task))])
    write_text(RESULTS / "table.md", long)
    IMAGES.mkdir(parents=True, exist_ok=True)
    parts = [
        HEAD,
        *(_section(each) for each in encoders),
        HELD_OUT,
        _text("../held_out/table.md"),
        _text("conclusions.md"),
    ]
    write_text(PAGE, "\n".join(parts).rstrip() + "\n")
    print(long)


def seeds_of(encoder: str, task: str, row: str) -> list[int]:
    """Return the seeds whose runs are done."""
    return sorted(int(path.name.rpartition("_")[2]) for path in (RESULTS / encoder / task).glob(f"{row}_[0-9]*"))


def _lines(encoder: str, task: str) -> Iterator[list[str]]:
    """Yield the rows of a task in the long table."""
    dense = _dense(encoder, task)
    if dense:
        yield [encoder, task, f"dense ({len(dense)})", f"{fmean(dense.values()):.4f}", *[""] * len(BUDGETS)]
    for row in ROWS:
        seeds = seeds_of(encoder, task, row)
        if not seeds:
            continue
        points, cost = _in_use(encoder, task, row)
        yield [encoder, task, f"{row} ({len(seeds)})", f"{_valued(points, dense)} at {cost:.2f}", *[""] * len(BUDGETS)]
        for name in _names(encoder, task, row):
            read_at = [_read(encoder, task, f"{row}, {name}", budget) for budget in BUDGETS]
            yield [encoder, task, f"{row}, {name}", "", *(_valued(values, dense) for values in read_at)]
    for row in PAIRS:
        read_at = [_read(encoder, task, row, budget) for budget in BUDGETS]
        if any(read_at):
            yield [encoder, task, row, "", *(_valued(values, dense) for values in read_at)]


def _section(encoder: str) -> str:
    """Return a heading, the table of an encoder, and its figures."""
    budget = 0.4 if encoder == "base" else 0.5
    tasks = [task for task in TITLES if seeds_of(encoder, task, "dense")]
    dense = {task: _dense(encoder, task) for task in tasks}
    rows = [["dense", *(f"{fmean(values.values()):.4f}" for values in dense.values()), _mean(dense)]]
    last = {task: _last_epochs(encoder, task) for task in tasks}
    rows.append([LAST, *(_lost(last[task], dense[task], None) for task in tasks), _mean_lost(last, dense)])
    for row, name in NAMES.items():
        found: dict[str, Readings] = {}
        costs = {}
        for task in tasks:
            if row in POINTS:
                found[task], costs[task] = _in_use(encoder, task, row)
            else:
                found[task] = _read(encoder, task, row, budget)
        if any(x is not None for values in found.values() for x in values.values()):
            cells = [_lost(found[task], dense[task], costs.get(task)) for task in tasks]
            rows.append([name, *cells, _mean_lost(found, dense)])
    head = [f"at {budget:g} of dense", *(f"{TITLES[task]} ({_number(dense[task])})" for task in tasks), "mean of four"]
    images = [f"![{encoder} on {TITLES[task]}]({_draw(encoder, task).relative_to(PAGE.parent)})" for task in tasks]
    return "\n".join([f"## {_title(encoder)}", "", table([head, *rows]), *images, ""])


def _title(encoder: str) -> str:
    return {"minilm": "all-MiniLM-L6-v2 (6 layers, hidden size 384)"}.get(encoder, f"Encoder `{encoder}`")


def _number(dense: dict[int, float]) -> str:
    return f"{len(dense)} seed{'s' if len(dense) != 1 else ''}"


def _text(name: str) -> str:
    """Return the words of a file beside the results."""
    path = RESULTS / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _dense(encoder: str, task: str) -> dict[int, float]:
    """Return the value of each seed's dense model."""
    seeds = seeds_of(encoder, task, "dense")
    return {seed: _metrics(encoder, task, "dense", seed)["routed"]["value"] for seed in seeds}


def _last_epochs(encoder: str, task: str) -> Readings:
    """Return the value of each seed's dense model at its last epoch, which the texts have not chosen."""
    found: Readings = {}
    for seed in seeds_of(encoder, task, "dense"):
        with (RESULTS / encoder / task / f"dense_{seed}" / "metrics.csv").open(newline="") as file:
            found[seed] = float(list(csv.DictReader(file))[-1]["val/rung_1"])
    return found


def _in_use(encoder: str, task: str, row: str) -> tuple[Readings, float | None]:
    """Return the value of each seed at the operating point that training chose, or at full width, and the mean cost."""
    row, _, full = row.partition(", ")
    metrics = {seed: _metrics(encoder, task, row, seed) for seed in seeds_of(encoder, task, row)}
    found = {seed: each["rungs"][-1] if full else each["routed"] for seed, each in metrics.items()}
    cost = fmean(point["macs_fraction"] for point in found.values()) if found else None
    return {seed: point["value"] for seed, point in found.items()}, cost


def _names(encoder: str, task: str, row: str) -> list[str]:
    return sorted({name for seed in seeds_of(encoder, task, row) for name in _curves(encoder, task, row, seed)})


def _read(encoder: str, task: str, row: str, budget: float) -> Readings:
    """Return the value of each seed at a budget, of ``<run>, <rule>`` or of a pair."""
    if row in PAIRS:
        points = {seed: _pair(encoder, task, row, seed) for seed in seeds_of(encoder, task, PAIRS[row])}
        return {seed: value_at(each, budget) for seed, each in points.items() if each}
    run, _, name = row.partition(", ")
    curves = {seed: _curves(encoder, task, run, seed).get(name) for seed in seeds_of(encoder, task, run)}
    return {seed: value_at(each, budget) for seed, each in curves.items() if each}


def _pair(encoder: str, task: str, row: str, seed: int) -> list[tuple[float, float]]:
    small, full = (RESULTS / encoder / task / f"{name}_{seed}" for name in (PAIRS[row], "dense"))
    return pair_points(small, full, _metrics(encoder, task, PAIRS[row], seed)["metric"], GRID)


def _metrics(encoder: str, task: str, row: str, seed: int) -> dict[str, Any]:
    return json.loads((RESULTS / encoder / task / f"{row}_{seed}" / "metrics.json").read_text())


def _curves(encoder: str, task: str, row: str, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Return the (cost, value) points of each rule; those of the rule in use stand under the method's own name."""
    found: dict[str, list[tuple[float, float]]] = {}
    own = _metrics(encoder, task, row, seed).get("rule", "router")
    with (RESULTS / encoder / task / f"{row}_{seed}" / "curve.csv").open(newline="") as file:
        for each in csv.DictReader(file):
            method, _, control = each["method"].partition("/")
            name = control or (own if method == "sharcs" else "own rule")
            if each["point"].startswith("budget") and (name in (*RULES, "random") or method != "sharcs"):
                found.setdefault(name, []).append((float(each["macs_fraction"]), float(each["value"])))
    return found


def _valued(values: Readings, dense: dict[int, float]) -> str:
    """Return the mean, and the difference to dense."""
    known = [value for value in values.values() if value is not None]
    lost = _differences(values, dense)
    return f"{fmean(known):.4f}" + (f" ({_spread(lost)})" if lost else "") if known else "-"


def _lost(values: Readings, dense: dict[int, float], cost: float | None) -> str:
    lost = _differences(values, dense)
    return _spread(lost) + (f" at {cost:.2f}" if cost is not None else "") if lost else "-"


def _differences(values: Readings, dense: dict[int, float]) -> list[float]:
    """Return the points lost or won against dense, of the seeds that both have."""
    return [100 * (x - dense[seed]) for seed, x in values.items() if x is not None and seed in dense]


def _spread(lost: Sequence[float]) -> str:
    return f"{fmean(lost):+.2f}" + (f" ± {stdev(lost):.2f}" if len(lost) > 1 else "")


def _mean(dense: dict[str, dict[int, float]]) -> str:
    return f"{fmean(fmean(dense[t].values()) for t in CLASSIFICATION):.4f}" if {*CLASSIFICATION} <= {*dense} else "-"


def _mean_lost(found: dict[str, Readings], dense: dict[str, dict[int, float]]) -> str:
    lost = [_differences(found.get(task, {}), dense.get(task, {})) for task in CLASSIFICATION]
    return f"{fmean(fmean(each) for each in lost):+.2f}" if all(lost) else "-"


def _points(encoder: str, task: str, row: str) -> list[tuple[float, float]]:
    """Return the (cost, value) points of a row, averaged over seeds."""
    if row in POINTS:
        values, cost = _in_use(encoder, task, row)
        return [] if cost is None else [(cost, fmean(x for x in values.values() if x is not None))]
    found = []
    for budget in GRID:
        known = [x for x in _read(encoder, task, row, budget).values() if x is not None]
        found += [(budget, fmean(known))] if known else []
    return frontier(found)


def _draw(encoder: str, task: str) -> Path:
    """Draw value against cost, averaged over seeds, and return the image."""
    path = IMAGES / f"{encoder}_{task}.png"
    with canvas(path, (7.2, 3.6)) as figure:
        axes = figure.subplots()
        dense = fmean(_dense(encoder, task).values())
        axes.axhline(dense, color=GREY, lw=0.8, ls="--")
        axes.plot(1.0, dense, "*", color="black", ms=13, label="dense")
        for number, (row, name) in enumerate(NAMES.items()):
            points = _points(encoder, task, row)
            if points:
                style: Any = look(number) | {"ms": 4 if len(points) > 1 else 8}
                axes.plot(*zip(*points, strict=True), **style, label=name.replace("`", ""))
        axes.set(xlabel="multiply-adds per sample, of dense", ylabel=TITLES[task])
        axes.grid(alpha=0.3)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return path
