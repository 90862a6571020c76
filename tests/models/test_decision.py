import pytest
import torch

from sharcs_pl.core.cascade import first_rungs
from sharcs_pl.core.decision import CERTAINTIES, DecisionRule
from sharcs_pl.models.decision import decide, run_rule

LOGITS = torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(1)) * 2
ROUTER = torch.randn(200, 3, generator=torch.Generator().manual_seed(2))


def slow(rule, logits, router):
    """One sample at a time, as the rule is told in words."""
    best = router.argmax().item()
    if rule.starts is not None:
        best = next((i for i, t in enumerate(rule.starts) if router[: i + 1].max() >= t), 2)
    first = best if rule.routed else 0
    if not rule.cascades:
        return first, first, logits[first]
    scale = torch.tensor(rule.temperatures or (1.0, 1.0, 1.0))
    scores = logits / scale[:, None]
    before = None
    for rung in range(first, 3):
        answer = scores[first : rung + 1].log_softmax(-1).mean(0) if rule.average else scores[rung]
        probabilities = answer.softmax(-1).sort(descending=True).values
        if rule.certainty == "agreement":
            sure = 0.0 if before is not None and answer.argmax() == before.argmax() else -1.0
        else:
            entropy = -(probabilities * probabilities.log()).sum() / torch.tensor(4.0).log()
            margin = probabilities[0] - probabilities[1]
            sure = {"probability": probabilities[0], "margin": margin, "entropy": 1 - entropy}[rule.certainty]
        before = answer
        if rung == 2 or sure >= rule.stops[rung]:
            return first, rung, answer
    raise AssertionError


@pytest.mark.parametrize("name", ["router", "cascade", "router+cascade"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("certainty", CERTAINTIES)
def test_a_decision_is_what_the_rule_says_in_words(name, certainty, average):
    stops = {"probability": (0.8, 0.7), "margin": (0.6, 0.5), "entropy": (0.4, 0.5), "agreement": (0.0, 0.0)}[certainty]
    starts = None if name == "cascade" else (0.4, 0.2)
    for temperatures in (None, (2.0, 1.5, 1.0)):
        rule = DecisionRule(name, starts, None if name == "router" else stops, certainty, average, temperatures)
        found = decide(rule, LOGITS, ROUTER)
        expected = [slow(rule, x, r) for x, r in zip(LOGITS, ROUTER, strict=True)]
        assert found.first.tolist() == [x[0] for x in expected]
        assert found.rungs.tolist() == [x[1] for x in expected]
        torch.testing.assert_close(found.logits, torch.stack([x[2] for x in expected]))
        assert name == "router" or len(set(found.rungs.tolist())) > 1


@pytest.mark.parametrize(("name", "reads"), [("router", 1), ("cascade", 2), ("router+cascade", 3)])
def test_running_by_a_rule_decides_as_it_does_and_reads_once_for_the_router_and_each_tail_but_the_last(
    monkeypatch, name, reads
):
    rule = DecisionRule(
        name, None if name == "cascade" else (0.4, 0.2), None if name == "router" else (0.8, 0.7), average=True
    )
    ran = []

    def run(rows, rung):
        ran.append((rung, len(LOGITS) if rows is None else len(rows)))
        return LOGITS[:, rung] if rows is None else LOGITS[rows, rung]

    read, seen = torch.Tensor.cpu, []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: seen.append(tensor) or read(tensor))
    found = run_rule(rule, first_rungs(rule, ROUTER, 200, 2, torch), 3, run)
    assert len(seen) == reads
    expected = decide(rule, LOGITS, ROUTER)
    assert (found.first.tolist(), found.rungs.tolist()) == (expected.first.tolist(), expected.rungs.tolist())
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    needed = [int(((expected.first <= rung) & (expected.rungs >= rung)).sum()) for rung in range(3)]
    assert ran == list(enumerate(needed))


def test_a_regression_stops_where_two_widths_agree_within_the_tolerance():
    values = torch.tensor([[1.0, 1.05, 3.0], [1.0, 2.0, 2.1], [0.0, 1.0, 2.0]]).unsqueeze(-1)
    rule = DecisionRule("cascade", stops=(-0.1, -0.1), certainty="agreement")
    assert decide(rule, values, None).rungs.tolist() == [1, 2, 2]
    averaged = DecisionRule("cascade", stops=(-0.1, -0.1), certainty="agreement", average=True)
    assert decide(averaged, values, None).logits[0].item() == pytest.approx(1.025)


def test_a_text_that_begins_at_full_width_is_never_averaged():
    rule = DecisionRule("router+cascade", (9.0, 9.0), (0.9, 0.9), average=True)
    found = decide(rule, LOGITS, ROUTER)
    assert found.first.tolist() == found.rungs.tolist() == [2] * 200
    torch.testing.assert_close(found.logits, LOGITS[:, 2].log_softmax(-1))


def test_half_precision_decides_in_float32():
    rule = DecisionRule("cascade", stops=(0.9, 0.9), average=True)
    half = LOGITS.bfloat16()
    assert decide(rule, half, None).rungs.tolist() == decide(rule, half.float(), None).rungs.tolist()
