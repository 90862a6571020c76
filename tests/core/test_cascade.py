from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sharcs_pl.core.cascade import answers, certainties, choose_rungs, first_rungs, stops_at
from sharcs_pl.core.decision import CERTAINTIES, DecisionRule

LOGITS = torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(1)) * 2
ROUTER = torch.randn(200, 3, generator=torch.Generator().manual_seed(2))
FIRST = torch.arange(200) % 3


def test_certainties_of_rungs_seen_so_far_do_not_depend_on_wider_ones():
    for certainty in CERTAINTIES:
        rule = DecisionRule(
            "cascade", stops=(0.0, 0.0), certainty=certainty, average=True, temperatures=(2.0, 1.0, 3.0)
        )
        first = torch.zeros(200, dtype=torch.long)
        whole = certainties(rule, LOGITS, first)
        torch.testing.assert_close(certainties(rule, LOGITS[:, :2], first), whole[:, :2])
        torch.testing.assert_close(answers(rule, LOGITS[:, :2], first), answers(rule, LOGITS, first)[:, :2])


@pytest.mark.parametrize("certainty", CERTAINTIES)
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("temperatures", [None, (2.0, 1.5, 1.0)])
def test_arrays_of_both_libraries_decide_alike(certainty, average, temperatures):
    stops = {"agreement": (0.0, -0.5)}.get(certainty, (0.8, 0.6))
    rule = DecisionRule("cascade", None, stops, certainty, average, temperatures)
    logits = torch.cat([LOGITS, LOGITS[:20] * 100, LOGITS[20:40] * 0])
    first = torch.cat([FIRST, FIRST[:40]])
    ran = (torch.arange(3) >= first[:, None]).numpy()
    with np.errstate(all="raise", under="ignore"):
        found = certainties(rule, logits.numpy(), first.numpy())
        answered = answers(rule, logits.numpy(), first.numpy())
    assert found.dtype == answered.dtype == np.float32
    np.testing.assert_allclose(found[ran], certainties(rule, logits, first).numpy()[ran], atol=2e-6)
    np.testing.assert_allclose(answered[ran], answers(rule, logits, first).numpy()[ran], atol=1e-4)
    same = stops_at(rule, found)[ran] == stops_at(rule, certainties(rule, logits, first)).numpy()[ran]
    assert same.mean() > 0.99  # what differs is a tie within rounding


def test_a_regression_agrees_alike_in_both_libraries():
    rule = DecisionRule("cascade", None, (-0.5, -0.5), "agreement")
    found = certainties(rule, LOGITS[..., :1].numpy(), FIRST.numpy())
    np.testing.assert_array_equal(found, certainties(rule, LOGITS[..., :1], FIRST).numpy())


@pytest.mark.parametrize("thresholds", [None, (0.4, 0.2), (1e9, -1e9)])
def test_routing_is_alike_in_both_libraries(thresholds):
    rule = DecisionRule("router", thresholds)
    wanted = choose_rungs(ROUTER, thresholds)
    assert choose_rungs(ROUTER.numpy(), thresholds).tolist() == wanted.tolist()
    assert first_rungs(rule, ROUTER.numpy(), 200, 2, np).tolist() == wanted.tolist()
    assert first_rungs(rule, ROUTER, 200, 2, torch).dtype == torch.int64


@pytest.mark.parametrize("library", [np, torch])
def test_without_a_router_a_rule_begins_at_an_end_of_the_ladder(library):
    assert first_rungs(DecisionRule("router"), None, 3, 2, library).tolist() == [2, 2, 2]
    assert first_rungs(DecisionRule("cascade", stops=(0.9, 0.9)), None, 3, 2, library).tolist() == [0, 0, 0]


@pytest.mark.parametrize("certainty", ["probability", "margin", "entropy"])
def test_the_certainty_of_several_labels_is_that_of_the_least_sure_one(certainty: str) -> None:
    logits = np.array([[[3.0, -0.5], [4.0, -2.0]]], np.float32)  # a text at two widths
    rule = DecisionRule("cascade", stops=(0.5,), certainty=certainty, multi_label=True)
    found = certainties(rule, logits, np.zeros(1, np.int64))
    single = DecisionRule("cascade", stops=(0.5,), certainty=certainty)
    worst = np.stack([np.zeros_like(logits[..., 1]), logits[..., 1]], -1)  # the second label as two classes
    assert found == pytest.approx(certainties(single, worst, np.zeros(1, np.int64)), abs=1e-6)


def test_the_agreement_of_several_labels_is_minus_the_largest_change_and_averages_are_of_logits() -> None:
    logits = np.array([[[0.0, 2.0], [0.0, -2.0]]], np.float32)
    rule = DecisionRule("cascade", stops=(-0.5,), certainty="agreement", average=True, multi_label=True)
    assert answers(rule, logits, np.zeros(1, np.int64))[0, 1].tolist() == [0.0, 0.0]
    found = certainties(replace(rule, average=False), logits, np.zeros(1, np.int64))
    change = 1 / (1 + np.exp(-2.0)) - 1 / (1 + np.exp(2.0))
    assert found[0].tolist() == [-np.inf, pytest.approx(-change, abs=1e-6)]
