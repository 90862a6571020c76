"""What a race records, on clocks that the test sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sharcs_pl.analysis.benchmark import latency
from sharcs_pl.analysis.benchmark.latency import Pass, Timed, Variant, batch_pass, race, stream_pass
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.inference.conftest import folder  # noqa: F401  (fixture)
from tests.inference.made import batch


def variant(name: str, log: list[str], seconds: list[float], macs: float = 1.0) -> Variant:
    left = iter(seconds)

    def run() -> Pass:
        log.append(name)
        spent = next(left)
        return Pass(spent, np.array([spent / 2, spent / 2]))

    return Variant(name, run, macs)


def test_contenders_take_turns_and_only_ratios_within_a_round_count() -> None:
    log: list[str] = []
    stock = variant("stock", log, [9.0, 1.0, 2.0, 4.0])
    ours = variant("ours", log, [1.0, 0.5, 1.0, 1.0], macs=0.4)
    one, other = race([stock, ours], samples=10, repeats=3, warmup=1, seed=0)
    assert sorted(log[:2]) == sorted(log[2:4]) == sorted(log[4:6]) == ["ours", "stock"]
    assert one.seconds == [1.0, 2.0, 4.0]  # without the warm-up
    assert other.speedups == [2.0, 2.0, 4.0]
    assert (other.speedup, other.promised, other.efficiency) == (2.0, 2.5, pytest.approx(0.8))
    assert other.spread == pytest.approx((0.8, 1.2))
    assert one.throughput == 5.0
    assert one.percentile(100) == 2.0


def test_the_order_is_drawn_anew_and_by_the_seed() -> None:
    def orders(seed: int) -> list[str]:
        log: list[str] = []
        race([variant(name, log, [1.0] * 8) for name in "abc"], 1, 8, 0, seed)
        return log

    assert orders(1) == orders(1) != orders(2)
    rounds = ["".join(orders(1)[start : start + 3]) for start in range(0, 24, 3)]
    assert len(set(rounds)) > 1


def test_efficiency_of_the_reference_is_one() -> None:
    timed = Timed(Variant("stock", lambda: Pass(1, np.zeros(1)), 1.0), 4, [1.0], np.zeros(1), [1.0], [1.0])
    assert (timed.efficiency, timed.spread) == (1.0, (1.0, 1.0))


class Ticks:
    """A clock that moves by one second whenever it is read."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


def test_latencies_of_batches_are_their_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "time", Ticks())
    done = batch_pass([batch(), batch(12)], lambda given: torch.zeros(12, 1), torch.device("cpu"))
    assert done.latencies.tolist() == [1.0, 1.0]
    assert done.seconds == 5.0


def test_latencies_of_a_stream_run_from_the_batch_to_the_answer(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,  # noqa: F811
) -> None:
    model = SharcsForSequenceClassification.from_pretrained(folder)
    monkeypatch.setattr(latency, "time", Ticks())
    rungs = [np.zeros(12, np.int64)] * 2
    done, found = stream_pass([batch(), batch(12)], torch_engine(model), 18, torch.device("cpu"), rungs)
    assert sorted(done.latencies.tolist()) == [1.0] * 6 + [2.0] * 18  # read at 2, 3 (answers at 4), and at the end
    assert sorted(np.concatenate([each.index for each in found]).tolist()) == list(range(24))
