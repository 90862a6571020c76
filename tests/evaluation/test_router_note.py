"""A router that chooses nothing, or no better than chance, is told in a sentence; one that chooses is not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console, RenderableType
from torch import Tensor

from sharcs_pl.core.exits import ExitCost, ExitLadder
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.predictions import Predictions
from sharcs_pl.evaluation.report import evaluate
from sharcs_pl.evaluation.router_note import router_note
from sharcs_pl.evaluation.table import report_table, shares_table
from tests.evaluation.made import COST, SHAPE

SIZE = 400


def answers(rungs: Tensor, narrow_right: Tensor) -> Predictions:
    """Label 1 throughout; the top rung is right, the narrow one where it says so."""
    right = torch.stack([narrow_right, torch.ones(SIZE, dtype=torch.bool)], 1)
    return Predictions(
        uids=torch.arange(SIZE),
        logits=torch.nn.functional.one_hot(right.long(), 2).float(),
        router_logits=torch.nn.functional.one_hot(rungs, 2).float(),
        rungs=rungs,
        labels=torch.ones(SIZE, dtype=torch.long),
        lengths=torch.full((SIZE,), 8),
        difficulty=torch.full((SIZE,), -1),
    )


EASY = torch.arange(SIZE) % 2 == 0
ALTERNATE = (torch.arange(SIZE) // 2) % 2


def note(found: Predictions, task: str = "sst2") -> str | None:
    return router_note(evaluate({"validation": found}, GLUE[task], COST, seed=1))


@pytest.mark.parametrize(("others", "said"), [(0, True), (6, True), (8, False), (9, False)])
def test_one_width_that_takes_more_than_98_percent_is_told(others: int, said: bool) -> None:
    """Whichever the width, and though the few others are the right ones to send elsewhere."""
    hard = torch.zeros(SIZE, dtype=torch.bool)
    hard[:others] = True
    found = note(answers(hard.long(), ~hard))
    assert (found is not None) is said
    if said:
        assert found is not None
        assert f"width 0.25 takes {1 - others / SIZE:.1%} of the samples" in found
        narrow, full = COST.rung_macs(np.array([8]))[0] / COST.dense_macs(np.array([8]))
        (budget,) = re.findall(r"sharcs calibrate budget=([\d.]+)", found)
        assert narrow < float(budget) < full


def test_everything_at_full_width_is_told() -> None:
    found = note(answers(torch.ones(SIZE, dtype=torch.long), EASY))
    assert found is not None
    assert "width 1 takes 100.0% of the samples" in found
    for advice in ("width.bounds", "more epochs", "distill=top", "batch_size", "router.threshold"):
        assert advice in found, advice
    assert "\n" not in found


def test_choices_no_better_than_dealt_ones_are_told() -> None:
    """Half of the easy samples and half of the hard ones go narrow."""
    report = evaluate({"validation": answers(ALTERNATE, EASY)}, GLUE["sst2"], COST, seed=1)
    found = router_note(report)
    assert found is not None
    assert f"accuracy is {report.routed.value:.4f}" in found
    assert f"{report.random['value']:.4f} ± {report.random['std']:.4f}" in found
    assert "no better than chance" in found


def test_choices_that_are_worse_than_dealt_ones_are_told() -> None:
    assert note(answers(EASY.long(), EASY)) is not None


def test_a_router_that_chooses_is_left_alone() -> None:
    assert note(answers((~EASY).long(), EASY)) is None


def test_a_regression_is_judged_by_its_own_metric() -> None:
    values = torch.linspace(0, 5, SIZE)
    exact = values[:, None].expand(-1, 2)
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    logits = torch.stack([exact[:, 0] + torch.where(EASY, 0, 5 * noise), exact[:, 1]], 1)[..., None]
    scored = replace(answers((~EASY).long(), EASY), logits=logits, labels=values)
    assert note(scored, "stsb") is None
    dealt = note(replace(scored, rungs=ALTERNATE), "stsb")
    assert dealt is not None
    assert "pearson is" in dealt


def shown(table: RenderableType) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table)
    return " ".join(captured.get().split())


def test_the_note_stands_below_both_tables() -> None:
    found = answers(torch.zeros(SIZE, dtype=torch.long), EASY)
    text = shown(report_table(evaluate({"validation": found}, GLUE["sst2"], COST, seed=1)))
    assert text.index("oracle") < text.index("width 0.25 takes 100.0% of the samples")
    assert "width 0.25 takes 100.0% of the samples" in shown(shares_table("sst2", "test", found, COST))
    mixed = answers(ALTERNATE, EASY)
    assert "takes" not in shown(shares_table("sst2", "test", mixed, COST))


def test_methods_without_a_router_get_none() -> None:
    found = answers(torch.zeros(SIZE, dtype=torch.long), EASY)
    no_router = replace(COST, has_router=False)
    assert router_note(evaluate({"validation": found}, GLUE["sst2"], no_router, seed=1)) is None
    exits = ExitCost(SHAPE, ExitLadder((1, 3)))
    assert router_note(evaluate({"validation": found}, GLUE["sst2"], exits, seed=1)) is None
    assert "takes" not in shown(shares_table("sst2", "test", found, no_router))


def test_what_is_stored_is_as_before() -> None:
    report = evaluate({"validation": answers(ALTERNATE, EASY)}, GLUE["sst2"], COST, seed=1)
    assert "has_router" not in report.to_json()
