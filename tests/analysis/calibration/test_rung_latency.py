from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from sharcs_pl.analysis.calibration.rung_latency import latency_table, measure_latency, timed_lengths


class Machine:
    """A clock that only passes move: rung and length say by how much, and every round is slower than the last."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[int, int]] = []

    def run(self, rung: int, length: int) -> None:
        self.calls.append((rung, length))
        self.now += 0.001 * (1 + rung) * length * (1 + len(self.calls) // 6)


def test_rounds_are_interleaved_and_the_first_passes_are_not_timed() -> None:
    machine = Machine()
    latency = measure_latency(machine.run, 2, [4, 8, 16], repeats=5, clock=lambda: machine.now)
    rounds = [machine.calls[i : i + 6] for i in range(0, len(machine.calls), 6)]
    assert len(rounds) == 7
    assert all(len(set(kinds)) == 6 for kinds in rounds)
    assert len({tuple(kinds) for kinds in rounds[2:]}) > 1
    # The median round is the fifth of seven (two warm up); a call is counted before it is timed.
    assert latency.median[0, 0] == pytest.approx(4 * 5, rel=0.25)
    np.testing.assert_allclose(latency.median[1] / latency.median[0], 2, rtol=0.25)
    assert (latency.low <= latency.median).all()
    assert (latency.median <= latency.high).all()
    assert (latency.low < latency.high).all()


def test_samples_get_the_time_of_their_length() -> None:
    machine = Machine()
    machine.run = lambda rung, length: setattr(machine, "now", machine.now + 0.001 * (1 + rung) * length)
    latency = measure_latency(machine.run, 2, [4, 8, 16], repeats=3, clock=lambda: machine.now)
    np.testing.assert_allclose(latency.of(np.array([4, 6, 16, 12])), [[4, 8], [6, 12], [16, 32], [12, 24]])
    console = Console(width=80)
    with console.capture() as captured:
        console.print(latency_table(latency, ["0.25", "1"]))
    assert "8.00 (8.00-8.00)" in captured.get()


def test_a_few_lengths_stand_for_a_split() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 500)
    timed = timed_lengths(lengths)
    assert (timed[0], timed[-1]) == (lengths.min(), lengths.max())
    assert len(timed) == 6
    assert timed_lengths(np.array([7, 7])).tolist() == [7]
