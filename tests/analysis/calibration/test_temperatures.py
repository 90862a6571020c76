"""Temperatures of the widths of a cascade, on samples whose calibrated probabilities are known."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from sharcs_pl.analysis.calibration.temperatures import fit_temperatures
from sharcs_pl.core.cascade import answers
from sharcs_pl.core.decision import DecisionRule


def known(size: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three widths and labels drawn by each sample's true probabilities, which the first width exaggerates
    fivefold and the second understates by half; the third guesses and is sure of it."""
    generator = torch.Generator().manual_seed(0)
    true = 1.5 * torch.randn(size, 3, generator=generator)
    labels = torch.multinomial(true.softmax(-1), 1, generator=generator).flatten()
    return torch.stack([5 * true, true / 2, 8 * torch.randn(size, 3, generator=generator)], 1), labels


def test_each_width_gets_the_temperature_that_its_samples_have() -> None:
    form = DecisionRule("cascade")
    found = fit_temperatures(form, *known())
    assert found.temperatures is not None
    assert found.temperatures[:2] == pytest.approx((5.0, 0.5), rel=0.05)
    assert found.temperatures[2] > 15  # close to no information
    assert (found.name, found.stops, found.average) == (form.name, form.stops, form.average)


def test_where_answers_are_averaged_a_width_that_guesses_weighs_little() -> None:
    logits, labels = known()
    first = torch.zeros(len(labels), dtype=torch.long)
    plain = DecisionRule("cascade", average=True)
    fitted = fit_temperatures(plain, logits, labels)

    def loss(rule: DecisionRule) -> float:
        return cross_entropy(answers(rule, logits, first)[:, -1], labels).item()

    def accuracy(rule: DecisionRule) -> float:
        return (answers(rule, logits, first)[:, -1].argmax(-1) == labels).float().mean().item()

    assert loss(fitted) < loss(plain)
    best = (logits[:, 0].argmax(-1) == labels).float().mean().item()
    assert accuracy(plain) < best - 0.02
    assert accuracy(fitted) > best - 0.01


def test_samples_without_an_error_give_finite_temperatures() -> None:
    labels = torch.arange(40) % 2
    logits = torch.nn.functional.one_hot(labels, 2).float()[:, None].repeat(1, 2, 1)
    found = fit_temperatures(DecisionRule("cascade", stops=(0.9,)), logits, labels)
    found.check(("0.5", "1"), has_router=False, num_labels=2)
