"""The operating points that a training leaves: a setting of each rule, chosen on texts that chose nothing else.

The texts of ``task.calibration`` neither train nor choose the epoch. They are answered in the model's own precision,
as ``sharcs predict`` answers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from sharcs_pl.analysis.calibration.points import Row, measure
from sharcs_pl.analysis.calibration.rules import Cascades, setting_within
from sharcs_pl.analysis.calibration.texts import bound_holds, digest_of
from sharcs_pl.analysis.calibration.views import Views
from sharcs_pl.config import RunConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.core.decision import rules_of
from sharcs_pl.core.ranks import all_ranks
from sharcs_pl.core.screen import Screen
from sharcs_pl.data.sampler import eval_loader
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.pipeline.build import Run, build_table

SPLIT = "calibration"
CONFIDENCE = CalibrateConfig.confidence  # of the bounds that are kept with a point


def choose_points(config: RunConfig, run: Run) -> None:
    """Choose a setting of every rule of the model for ``router.budget``, keep them as operating points named by their
    rules, and take the best by the task's metric into use, or that of ``router.rule`` where it cascades. A rule whose
    cheapest setting costs more is left out."""
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
            rule = setting_within(name, views, budget, "router.budget", Cascades(config.router.certainty))
        except ValueError as error:
            if run.trainer.is_global_zero:
                Screen(stderr=True, soft_wrap=True).print(f"warning: no point for rule={name}: {error}")
            continue
        holds = bound_holds(rule.to_point(), {})
        rows.append(replace(measure(name, rule, views, CONFIDENCE), holds=holds))
    said = keep_points(model, rows, here, config.router.rule)
    if said and run.trainer.is_global_zero:
        Screen(soft_wrap=True).print(said)


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


def keep_points(model: Any, rows: list[Row], here: dict[str, Any], asked: str) -> str | None:
    """Store the points in the model's config and take one into use: that of the rule ``asked`` for if it cascades, else
    the best. Return a line about it, None without a point."""
    if not rows:
        return None
    widths = model.ladder.labels()
    model.config.operating_points = {row.name: {**row.rule.to_point(), **here, **row.to_json(widths)} for row in rows}
    named = [row for row in rows if row.name == asked and asked != "router"]
    used = max(named or rows, key=lambda row: (row.report.routed.value, -row.report.routed.macs_fraction))
    model.set_operating_point(used.name)
    others = [row.name for row in rows if row is not used]
    also = f"; {', '.join(others)} {'are' if len(others) > 1 else 'is'} kept too" if others else ""
    where = f"chosen on {here['samples']:,} texts of {SPLIT} for {here['budget']:g} of dense"
    return f"in use: point={used.name}, {where}{also}"
