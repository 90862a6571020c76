"""Settings of any rule, found and tested on samples of a population whose risks are known."""

from __future__ import annotations

import numpy as np
import pytest

from sharcs_pl.analysis.calibration.rules import Cascades, Settings, _fixed_path, control_rule, searched
from sharcs_pl.analysis.calibration.views import Views, decided
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.evaluation.metrics import compute_metric
from tests.analysis.calibration.simulated import SIZE, population

MAX_DROP, CONFIDENCE = 0.04, 0.8


def risk(views: Views, rule: DecisionRule) -> float:
    quality = views.quality(decided(views, rule))
    return float((views.outcomes.quality[:, -1] * (1 - quality)).mean())


@pytest.mark.parametrize(
    ("rule", "draws", "temperatures"), [("cascade", 40, False), ("cascade", 40, True), ("router+cascade", 12, False)]
)
def test_a_promise_is_broken_no_more_often_than_it_says(rule: str, draws: int, temperatures: bool) -> None:
    whole = population()
    broken = 0
    for draw in range(draws):
        rows = np.random.default_rng(draw).integers(SIZE, size=300)
        try:
            promise = control_rule(
                rule, whole.select(rows), MAX_DROP, CONFIDENCE, draw, Cascades(temperatures=temperatures)
            )
        except ValueError:
            continue  # a refusal breaks nothing
        assert promise.bound <= MAX_DROP
        assert promise.samples == (300 if (rule, temperatures) == ("cascade", False) else 150)
        assert (promise.rule.temperatures is not None) == temperatures
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


@pytest.mark.parametrize("certainty", ["margin", "entropy"])
def test_a_cascade_is_searched_by_the_certainty_and_the_answers_asked_for(certainty: str) -> None:
    asked = Cascades(certainty, (True,))
    views = population().select(np.arange(300))
    for rule in [*searched("cascade", views, asked), control_rule("cascade", views, 0.2, 0.5, 1, asked).rule]:
        assert (rule.certainty, rule.average) == (certainty, True)


def test_agreement_is_a_path_from_no_change_downwards() -> None:
    path = _fixed_path(DecisionRule("cascade", certainty="agreement"), population())
    stops = [stop for rule in path for stop in rule.stops or ()]
    assert len(stops) == len(path)
    assert stops == sorted(stops, reverse=True)
    assert -1 <= stops[-1] < stops[0] < 0


def test_too_few_texts_are_refused_with_how_many_would_do() -> None:
    with pytest.raises(ValueError, match=r"max_drop=0\.001 cannot be promised .* it takes [\d,]+ or more even without"):
        control_rule("cascade", population().select(np.arange(100)), 0.001, 0.9, 1)
    with pytest.raises(ValueError, match=r"the first saving of note shows a risk of \d+\.\d+%"):
        control_rule("cascade", population().select(np.arange(400)), 0.012, 0.9, 1)
