"""Settings of any rule, found and tested on samples of a population whose risks are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sharcs_pl.analysis.calibration.points import Views, decided
from sharcs_pl.analysis.calibration.rules import Settings, control_rule, searched
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.evaluation.predictions import Predictions
from tests.conftest import tiny_model

SIZE = 20_000
MAX_DROP, CONFIDENCE = 0.04, 0.8


def population(seed: int = 1) -> Views:
    """Two widths whose certainty tells a little of their mistakes, and a router that tells a little less."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (SIZE,), generator=generator)
    hard = torch.rand(SIZE, generator=generator)
    strength = torch.stack([2.0 - 2.5 * hard, 2.6 - 2.5 * hard], 1) + torch.randn(SIZE, 2, generator=generator)
    signs = torch.nn.functional.one_hot(labels, 2).float() * 2 - 1
    logits = strength[..., None] * signs[:, None] / 2
    scores = torch.randn(SIZE, 2, generator=generator) - torch.stack([hard, -hard], 1)
    lengths, unknown = torch.full((SIZE,), 8), torch.full((SIZE,), -1)
    rows = (torch.arange(SIZE), logits, scores, scores.argmax(-1), labels, lengths, unknown)
    return Views.of(Predictions(*rows), GLUE["sst2"], tiny_model().cost, seed=1)


def risk(views: Views, rule: DecisionRule) -> float:
    quality = views.quality(decided(views, rule))
    return float((views.outcomes.quality[:, -1] * (1 - quality)).mean())


@pytest.mark.parametrize(("rule", "draws"), [("cascade", 40), ("router+cascade", 12)])
def test_a_promise_is_broken_no_more_often_than_it_says(rule: str, draws: int) -> None:
    whole = population()
    broken = 0
    for draw in range(draws):
        rows = np.random.default_rng(draw).integers(SIZE, size=300)
        try:
            promise = control_rule(rule, whole.select(rows), MAX_DROP, CONFIDENCE, draw)
        except ValueError:
            continue  # a refusal breaks nothing
        assert promise.bound <= MAX_DROP
        broken += risk(whole, promise.rule) > MAX_DROP
    # P(Binomial(40, 0.2) > 15) and P(Binomial(12, 0.2) > 6) are below 0.4 %
    assert broken <= {40: 15, 12: 6}[draws]


def test_a_budget_is_spent_on_the_setting_of_best_metric() -> None:
    views = population().select(np.arange(400))

    def metric(rule: DecisionRule) -> float:
        found = decided(views, rule)
        return compute_metric("accuracy", found.routed_logits(), found.labels)

    settings = Settings.of(searched("best", views), views)
    assert {rule.name for rule in settings.rules} == {"router", "cascade", "router+cascade"}
    best = settings.spend(0.7, metric, "budget")
    assert views.fractions(decided(views, best)).mean() <= 0.7
    alone = Settings.of(searched("router", views), views).spend(0.7, metric, "budget")
    assert metric(best) >= metric(alone)
    with pytest.raises(ValueError, match=r"budget=0\.1 is out of reach"):
        settings.spend(0.1, metric, "budget")


def test_too_few_texts_are_refused_with_how_many_would_do() -> None:
    with pytest.raises(ValueError, match=r"max_drop=0\.001 cannot be promised .* it takes [\d,]+ or more even without"):
        control_rule("cascade", population().select(np.arange(100)), 0.001, 0.9, 1)
    with pytest.raises(ValueError, match=r"the first saving of note shows a risk of \d+\.\d+%"):
        control_rule("cascade", population().select(np.arange(400)), 0.012, 0.9, 1)
