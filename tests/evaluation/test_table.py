from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rich.console import Console

from sharcs_pl.core.screen import Screen
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.report import RulePoint, evaluate
from sharcs_pl.evaluation.table import report_table
from tests.evaluation.made import COST, predictions


def test_the_table_fits_a_terminal_and_says_each_figure() -> None:
    report = evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1)
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(report_table(report))
    text = captured.get()
    for shown in (
        "routed",
        "width 0.25",
        "width 1 (full)",
        "random, same shares",
        "oracle",
        "oracle by agreement",
        "0.6000",
        "0.8000",
        "60.0%",
    ):
        assert shown in text
    assert "regret to the oracle 0.2000" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_rules_stand_side_by_side_at_budgets() -> None:
    points = [
        RulePoint(rule, budget, 0.8 + budget / 10, budget, -0.01, -0.0312, 0.0123)
        for rule in ("router", "cascade", "router+cascade", "random")
        for budget in (0.4, 0.5, 0.6)
    ]
    report = replace(evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1), rules=points)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(report_table(report))
    text = captured.get()
    for shown in ("router+cascade", "0.8500", "-0.0100 [-0.0312, +0.0123]", "against full at 0.5, 95 %"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 80
    assert report.to_json()["rules"][0]["rule"] == "router"


@pytest.mark.parametrize("name", ["attack", "[/red]", "a\nb"])
def test_f1_is_shown_with_the_class_that_it_is_about(name: str) -> None:
    task = replace(GLUE["sst2"], labels=("benign", name))
    for metrics, piece in ((("f1",), "sst2: f1 of {} and cost"), (("accuracy", "f1"), "f1 of {} 0.7500")):
        report = evaluate({"validation": predictions()}, replace(task, metrics=metrics), COST, seed=1)
        console = Screen(width=80)
        with console.capture() as captured:
            console.print(report_table(report))
        assert piece.format(name if name.isprintable() else repr(name)) in captured.get()
        assert report.to_json()["positive"] == name
    report = evaluate({"validation": predictions()}, replace(task, metrics=("accuracy",)), COST, seed=1)
    assert "positive" not in report.to_json()


def test_random_routing_is_shown_at_its_own_cost() -> None:
    found = replace(predictions(), lengths=torch.tensor([4, 5, 6, 70, 80]))
    report = evaluate({"validation": found}, GLUE["sst2"], COST, seed=1)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(report_table(report))
    (row,) = (line for line in captured.get().splitlines() if "random, same shares" in line)
    assert f"{report.random_point.macs_fraction:.1%}" in row
    assert f"{report.random_point.macs / 1e6:,.1f} M" in row
    assert f"{report.routed.macs_fraction:.1%}" not in row
