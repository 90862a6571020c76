"""The operating points that a training leaves: a setting of each rule, chosen on texts that chose nothing else.

The texts of ``task.calibration`` neither train nor choose the epoch. They are answered in the model's own precision,
as ``sharcs predict`` answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from sharcs_pl.analysis.calibration.points import Row, measure
from sharcs_pl.analysis.calibration.rules import Cascades, setting_within
from sharcs_pl.analysis.calibration.texts import bound_holds, digest_of
from sharcs_pl.analysis.calibration.views import Views, decided
from sharcs_pl.config import RunConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.core.decision import DecisionRule, rules_of
from sharcs_pl.core.ranks import all_ranks
from sharcs_pl.core.screen import Screen
from sharcs_pl.data.sampler import eval_loader
from sharcs_pl.evaluation.curves import Curves
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.pipeline.build import Run, build_table

SPLIT = "calibration"
_KEY = "router.budget"
CONFIDENCE = CalibrateConfig.confidence  # of the bounds that are kept with a point


def choose_points(config: RunConfig, run: Run) -> None:
    """Choose a setting of every rule of the model for ``router.budget``, keep them as operating points named by their
    rules, and take that of the best rule into use, or that of ``router.rule`` where it cascades. A rule whose cheapest
    setting costs more is left out.

    The best rule is the cascade unless another one is better by more than chance, see `best_rule`.
    """
    budget, model = config.router.budget, run.module.model
    if budget is None or config.method.widths != "all":
        return
    task = replace(run.inputs.task, validation=(SPLIT,))
    views = Views.of(answers(config, run), task, model.cost, config.seed)
    router, labels = model.router is not None, views.predictions.logits.shape[2]
    here = {
        "budget": budget, "task": task.name, "split": SPLIT, "samples": len(views.outcomes),
        "texts": digest_of(run.inputs.examples[SPLIT]), "confidence": CONFIDENCE, "seed": config.seed,
    }  # fmt: skip
    rows: list[Row] = []
    for name in rules_of(len(model.ladder), router, labels, bool(model.config.skim)):
        try:
            rule = setting_for(name, views, budget, Cascades(config.router.certainty))
        except ValueError as error:
            if run.trainer.is_global_zero:
                Screen(stderr=True, soft_wrap=True).print(f"warning: no point for rule={name}: {error}")
            continue
        holds = bound_holds(rule.to_point(), {})
        rows.append(replace(measure(name, rule, views, CONFIDENCE), holds=holds))
    if not rows:
        return
    names, asked = [row.name for row in rows], config.router.rule
    if asked == "router" or asked not in names:
        asked = best_rule(Curves(config.method.name, task.metric, model, views.predictions, config.seed), names, budget)
    said = keep_points(model, rows, here, asked)
    if run.trainer.is_global_zero:
        Screen(soft_wrap=True).print(said)


def setting_for(name: str, views: Views, budget: float, cascades: Cascades) -> DecisionRule:
    """Return the setting of a rule that makes the most of the budget, less a margin, so that other texts keep it too.
    Where no setting is so cheap, the margin is left out; raise `ValueError` where none is within the budget."""
    rule = setting_within(name, views, budget, _KEY, cascades)
    try:
        return setting_within(name, views, budget - margin(views.fractions(decided(views, rule))), _KEY, cascades)
    except ValueError:
        return rule


def margin(costs: np.ndarray) -> float:
    """Return by how much the mean of costs [S] may fall short of that of other texts, with `CONFIDENCE`."""
    return float(NormalDist().inv_cdf(CONFIDENCE) * costs.std() / math.sqrt(len(costs)))


def answers(config: RunConfig, run: Run) -> Predictions:
    """Return every rung's answers to the calibration texts, in every process."""
    module, trainer = run.module, run.trainer
    module.to(trainer.strategy.root_device).eval()
    table = build_table(config, run.inputs.examples[SPLIT], run.tokenizer)
    loader = eval_loader(table, config.eval_batch_size, trainer.global_rank, trainer.world_size)
    with torch.inference_mode():
        batches = (batch for batch in loader if len(batch.uids))  # a process may have none
        own = [module.predict_step(batch.to(module.device), number) for number, batch in enumerate(batches)]
    return Predictions.gather([found for rank in all_ranks(own) for found in rank])


def best_rule(curves: Curves, names: Sequence[str], budget: float) -> str:
    """Return the rule to use at a budget: the cascade, or the one that is best by more than the standard error of its
    difference to the cascade.

    Thresholds are chosen on one half of the samples and read on the other, on bootstrap draws. A few hundred samples
    order rules by luck: the one with the most thresholds fits them best, and is no better on others.
    """
    first = "cascade" if "cascade" in names else names[0]
    gains = {first: 0.0}
    others = [name for name in names if name != first] if len(curves.predictions.uids) > 1 else []
    for name in others:
        gain = curves.drawn(name, budget) - curves.drawn(first, budget)
        if gain.mean() > gain.std():
            gains[name] = gain.mean()
    return max(gains, key=lambda name: gains[name])


def keep_points(model: Any, rows: list[Row], here: dict[str, Any], used: str) -> str:
    """Store the points in the model's config, take that of the rule ``used`` into use, and return a line about it."""
    widths = model.ladder.labels()
    model.config.operating_points = {row.name: {**row.rule.to_point(), **here, **row.to_json(widths)} for row in rows}
    model.set_operating_point(used)
    others = [row.name for row in rows if row.name != used]
    also = f"; {', '.join(others)} {'are' if len(others) > 1 else 'is'} kept too" if others else ""
    where = f"chosen on {here['samples']:,} texts of {SPLIT} for {here['budget']:g} of dense"
    return f"in use: point={used}, {where}{also}"
