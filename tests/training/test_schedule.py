from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharcs_pl.training.schedule import epoch_fraction, linear_warmup_decay, stage_fraction


@pytest.mark.parametrize(
    ("fraction", "warmup", "factor"),
    [
        (0.0, 0.1, 0.0),
        (0.05, 0.1, 0.5),
        (0.1, 0.1, 1.0),
        (0.55, 0.1, 0.5),
        (1.0, 0.1, 0.0),
        (0.0, 0.0, 1.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_factor(fraction: float, warmup: float, factor: float) -> None:
    assert linear_warmup_decay(fraction, warmup) == pytest.approx(factor)


@given(st.floats(0, 1), st.floats(0, 1))
def test_factor_stays_between_zero_and_one(fraction: float, warmup: float) -> None:
    assert 0.0 <= linear_warmup_decay(fraction, warmup) <= 1.0 + 1e-9


def test_epochs_count_alike_however_long_they_are() -> None:
    assert epoch_fraction(2, 5, 10, 5) == pytest.approx(0.5)
    assert epoch_fraction(2, 500, 1000, 5) == pytest.approx(0.5)
    assert epoch_fraction(4, 10, 10, 5) == 1.0


def test_each_stage_has_fractions_of_its_own() -> None:
    found = [stage_fraction(epoch, 5, 10, 7, 3) for epoch in range(7)]
    assert found == pytest.approx([1 / 6, 3 / 6, 5 / 6, 1 / 8, 3 / 8, 5 / 8, 7 / 8])
    assert [stage_fraction(epoch, 5, 10, 7, 0) for epoch in range(7)] == [epoch_fraction(e, 5, 10, 7) for e in range(7)]
