"""The operating points that a training leaves: a setting of each rule, chosen on texts that chose nothing else.

The texts of ``task.calibration`` neither train nor choose the epoch. They are answered in the model's own precision,
as ``sharcs predict`` answers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from sharcs_pl.analysis.calibration.points import Row, measure
from sharcs_pl.analysis.calibration.rules import setting_within
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
    rules, and take the best by the task's metric into use. A rule whose cheapest setting costs more is left out."""
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
            rule = setting_within(name, views, budget, "router.budget")
        except ValueError as error:
            Screen(stderr=True, soft_wrap=True).print(f"warning: no point for rule={name}: {error}")
            continue
        holds = bound_holds(rule.to_point(), {})
        rows.append(replace(measure(name, rule, views, CONFIDENCE), holds=holds))
    keep_points(model, rows, here)


def answers(config: RunConfig, run: Run) -> Predictions:
    """Return every rung's answers to the calibration texts, in every process."""
    module, trainer = run.module, run.trainer
    module.to(trainer.strategy.root_device).eval()
    table = build_table(config, run.inputs.examples[SPLIT], run.tokenizer)
    loader = eval_loader(table, config.eval_batch_size, trainer.global_rank, trainer.world_size)
    with torch.inference_mode():
        own = [module.predict_step(batch.to(module.device), number) for number, batch in enumerate(loader)]
    return Predictions.gather([found for rank in all_ranks(own) for found in rank])


def keep_points(model: Any, rows: list[Row], here: dict[str, Any]) -> None:
    """Store the points in the model's config, the best one in use, and say which that is."""
    if not rows:
        return
    widths = model.ladder.labels()
    points = {row.name: {**row.rule.to_point(), **here, **row.to_json(widths)} for row in rows}
    best = max(rows, key=lambda row: (row.report.routed.value, -row.report.routed.macs_fraction))
    model.config.operating_points = points
    model.set_operating_point(best.name)
    others = [row.name for row in rows if row is not best]
    also = f"; {', '.join(others)} {'are' if len(others) > 1 else 'is'} kept too" if others else ""
    where = f"chosen on {here['samples']:,} texts of {SPLIT} for {here['budget']:g} of dense"
    Screen(soft_wrap=True).print(f"in use: point={best.name}, {where}{also}")
