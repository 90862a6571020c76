import json

import pytest

from sharcs_pl.core.decision import DecisionRule, check_certainty, check_rule, rules_of, stored_rule

WIDTHS = ("0.25", "0.5", "1")
CASCADE = DecisionRule("cascade", stops=(0.9, 0.8), average=True)
BOTH = DecisionRule("router+cascade", (0.5, 9.0), (0.9, 0.8), "margin", temperatures=(1.0, 2.0, 1.0))


@pytest.mark.parametrize("rule", [DecisionRule(), DecisionRule("router", (0.1, 0.2)), CASCADE, BOTH])
def test_a_rule_survives_json(rule):
    assert DecisionRule.from_point(json.loads(json.dumps(rule.to_point()))) == rule


def test_a_point_from_before_there_were_rules_is_the_routers():
    assert DecisionRule.from_point({"thresholds": [0.5], "value": 0.9}) == DecisionRule("router", (0.5,))
    assert DecisionRule("router", (0.5,)).to_point() == {"thresholds": [0.5]}


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"thresholds": [0.5, "a"]}, r"thresholds=\[0.5, 'a'\] is not a list of numbers"),
        ({"rule": "cascade", "stops": 0.9}, "stops=0.9 is not a list of numbers"),
        ({"rule": "cascade", "stops": [0.9, None]}, "stops="),
        ({"rule": "cascade", "stops": [0.9], "temperatures": "12"}, "temperatures=12 is not"),
        ({"rule": "cascade", "stops": [0.9], "average": "yes"}, "average=yes is neither true nor false"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(point, said):
    with pytest.raises(ValueError, match=said):
        DecisionRule.from_point(point)


def test_a_threshold_of_a_recipe_means_nothing_to_a_model_without_a_router():
    settings = {"router_threshold": 0.7, "router_hidden_size": 8}
    assert stored_rule(settings, 3, 2).starts == pytest.approx((0.8473,) * 2, abs=1e-4)
    assert stored_rule(settings | {"router_hidden_size": 0}, 3, 2) == DecisionRule()


@pytest.mark.parametrize(
    ("rule", "router", "labels", "said"),
    [
        (DecisionRule("widest"), True, 2, "rule=widest is unknown; choose one of: router, cascade"),
        (DecisionRule("router"), False, 2, "rule=router needs a router, which this model lacks; use rule=cascade"),
        (BOTH, False, 2, r"rule=router\+cascade needs a router"),
        (DecisionRule("cascade", stops=(0.9,)), True, 2, "stops has 1 values; the widths 0.25 0.5 1 ask for 2"),
        (DecisionRule("router", (0.1,)), True, 2, "thresholds has 1 values"),
        (DecisionRule("cascade"), True, 2, "stops is missing; a cascade has one per width except the full one"),
        (DecisionRule("router", (0.1, 0.2), (0.9, 0.8)), True, 2, "stops is for a cascade, and rule=router was given"),
        (DecisionRule("cascade", stops=(0.9, 1.5)), True, 2, r"stops has 1.5; probability lies in \[0, 1\]"),
        (DecisionRule("cascade", stops=(0.9, float("nan"))), True, 2, "stops has nan"),
        (CASCADE, True, 1, "certainty=probability needs class probabilities, which a regression lacks"),
        (DecisionRule("cascade", stops=(0.0, 1.0), certainty="luck"), True, 2, "certainty=luck is unknown"),
        (DecisionRule("cascade", stops=(0.9, 0.8), temperatures=(1.0,)), True, 2, "temperatures has 1 values"),
        (DecisionRule("cascade", stops=(0.9, 0.8), temperatures=(1.0, 0.0, 1.0)), True, 2, "a temperature is above 0"),
    ],
)
def test_a_rule_that_a_model_cannot_have_is_refused(rule, router, labels, said):
    with pytest.raises(ValueError, match=said):
        rule.check(WIDTHS, router, labels)


def test_one_width_has_no_rule():
    assert rules_of(1, False) == ()
    assert rules_of(3, False) == ("cascade",)
    with pytest.raises(ValueError, match="rule=cascade needs two or more widths; this model has one"):
        check_rule("cascade", 1, False)
    check_rule("router", 1, False)  # a model of one width has nothing to choose, and this rule says nothing else
    check_certainty("agreement", 1)
