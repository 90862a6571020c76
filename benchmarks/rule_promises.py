"""Two checks of rules on simulated answers whose risks are known: does a router of noise look better than random, and
are the promises of ``sharcs calibrate rule=… max_drop=…`` kept?

Run: ``python benchmarks/rule_promises.py``. Raw numbers go to ``benchmarks/results/rule_promises/results.json``, the
tables to ``table.txt`` beside it. ``--only noise`` or ``--only cascade`` makes one part; parts that are there stay.

The promises are tested on calibration sets that are drawn with replacement from a finite population, so the population
is the distribution and the risk of any setting is counted on it. In the parts called "best of ten" the set has also
chosen the best of ten epochs, each a population of its own: once with the level divided by ten, as `sharcs calibrate`
does, and once without.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from steps import machine

from sharcs_pl.analysis.calibration.rules import control_rule
from sharcs_pl.analysis.calibration.views import Views, decided
from sharcs_pl.core.decision import RULES, DecisionRule
from sharcs_pl.core.files import write_text
from sharcs_pl.core.flops import CostModel, EncoderShape
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.curves import RANDOM, Curves
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.models.sweeps import sweep_rule

RESULTS = Path("benchmarks/results/rule_promises")
SHAPE = EncoderShape(
    hidden_size=384, num_heads=12, head_size=32, intermediate_size=1536, num_layers=6, num_labels=2
)  # MiniLM
COST = CostModel(
    shape=SHAPE,
    ladder=WidthLadder.parse([0.25, 1]),
    split_layer=1,
    router_hidden_size=64,
    reduction="slice",
    has_router=True,
    cut="heads_ffn",
)
NOISE = {"mrpc_size": 408, "sst2_size": 872}
BUDGETS = (0.5, 0.6, 0.7)
POPULATION, EPOCHS, TEXTS = 20_000, 10, 600
MAX_DROP, CONFIDENCE = 0.02, 0.9
PROMISES: dict[str, tuple[str, int, int]] = {
    "cascade": ("cascade", 1, 1),
    "cascade_best_of_ten": ("cascade", EPOCHS, EPOCHS),
    "cascade_best_of_ten_uncorrected": ("cascade", EPOCHS, 1),
    "both": ("router+cascade", 1, 1),
    "both_best_of_ten": ("router+cascade", EPOCHS, EPOCHS),
}
"""By name: the rule, the number of epochs that a set chooses from, and the number that divides the level."""


def answers(size: int, seed: int, informed: float) -> Predictions:
    """Return answers of two widths whose certainty tells some of their mistakes, and a router that is `informed` of how
    hard a text is by that much."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (size,), generator=generator)
    hard = torch.rand(size, generator=generator)
    strength = torch.stack([2.2 - 2.4 * hard, 2.6 - 2.6 * hard], 1) + 0.8 * torch.randn(size, 2, generator=generator)
    signs = torch.nn.functional.one_hot(labels, 2).float() * 2 - 1
    scores = torch.randn(size, 2, generator=generator)
    scores[:, 0] -= informed * hard
    lengths, unknown = torch.full((size,), 30), torch.full((size,), -1)
    logits = strength[..., None] * signs[:, None] / 2
    return Predictions(torch.arange(size), logits, scores, scores.argmax(-1), labels, lengths, unknown)


def noise(size: int, simulations: int) -> dict[str, Any]:
    """Return the mean lead over random routing of a router of random scores, over simulations."""
    model = SimpleNamespace(ladder=COST.ladder, cost=COST, own_rule="router")
    model.sweep = lambda logits, signals: {name: sweep_rule(name, logits, signals) for name in RULES[:1]}
    leads = []
    for seed in range(simulations):
        found = Curves("noise", "accuracy", model, answers(size, seed, 0.0), seed)
        leads.append([found.read("router", b)[0] - found.read(RANDOM, b)[0] for b in BUDGETS])
    mean = np.mean(leads, 1)
    return {
        "simulations": simulations,
        "mean_lead": float(mean.mean()),
        "standard_error": float(mean.std(ddof=1) / len(mean) ** 0.5),
        "by_budget": dict(zip(map(str, BUDGETS), np.mean(leads, 0).tolist(), strict=True)),
    }


def promises(part: tuple[str, int, int], draws: int) -> dict[str, Any]:
    """Return how often a promise was broken, refused, and at what mean cost, over calibration sets."""
    rule, epochs, divisor = part
    populations = [Views.of(answers(POPULATION, 100 + epoch, 1.5), GLUE["sst2"], COST, 1) for epoch in range(epochs)]
    level = 1 - (1 - CONFIDENCE) / divisor
    broken, refused, costs = 0, 0, []
    for draw in range(draws):
        rows = np.random.default_rng(draw).integers(POPULATION, size=TEXTS)
        best = max(populations, key=lambda views: validated(views, rows))
        try:
            promise = control_rule(rule, best.select(rows), MAX_DROP, level, draw)
        except ValueError:
            refused += 1
            continue
        found = decided(best, promise.rule)
        broken += risk(best, found) > MAX_DROP
        costs.append(float(best.fractions(found).mean()))
    return {
        "rule": rule,
        "epochs": epochs,
        "level": level,
        "texts": TEXTS,
        "draws": draws,
        "broken": broken / draws,
        "refused": refused / draws,
        "mean_cost": float(np.mean(costs)) if costs else None,
    }


def validated(views: Views, rows: np.ndarray) -> float:
    """Return the accuracy by which a set of texts chooses an epoch: that of a cascade as training has it."""
    some = replace(views, predictions=views.predictions.select(torch.from_numpy(rows)))
    return float(views.quality(decided(some, DecisionRule("cascade", stops=(0.9,)))).mean())


def risk(views: Views, found: Predictions) -> float:
    """Return the share of samples that the top rung answers right and the rule wrong."""
    return float((views.outcomes.quality[:, -1] * (1 - views.quality(found))).mean())


def table(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = [f"machine: {json.dumps(found['machine'])}", f"command: {found['command']}", ""]
    for name, part in found["noise"].items():
        lines.append(
            f"router of noise, {name}: mean lead over random {part['mean_lead']:+.5f} ± {part['standard_error']:.5f} "
            f"({part['simulations']} simulations)"
        )
    lines.append(f"\nmax_drop={MAX_DROP} confidence={CONFIDENCE}: broken in at most {1 - CONFIDENCE:.0%} is kept")
    for name, part in found["promises"].items():
        cost = "" if part["mean_cost"] is None else f", mean cost {part['mean_cost']:.3f}"
        lines.append(f"{name}: broken {part['broken']:.1%}, refused {part['refused']:.1%} of {part['draws']:,}{cost}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["noise", *PROMISES], choices=["noise", *PROMISES])
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    file = RESULTS / "results.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"noise": {}, "promises": {}}
    found |= {"machine": machine(), "command": shlex.join(sys.argv)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    parts: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
        ("noise", name, lambda size=size: noise(size, args.simulations)) for name, size in NOISE.items()
    ]
    parts += [("promises", name, lambda row=row: promises(row, args.draws)) for name, row in PROMISES.items()]
    for kind, name, make in parts:
        if (kind if kind == "noise" else name) in args.only and name not in found[kind]:
            start = time.perf_counter()
            found[kind][name] = make()
            print(name, found[kind][name], f"{time.perf_counter() - start:.0f} s", flush=True)
            write_text(file, json.dumps(found, indent=2) + "\n")
    write_text(RESULTS / "table.txt", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
