from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharcs_pl.core.hardness import HardnessBuffer, sample_scores

TWO = [(0.8, 1.0), (0.0, 0.8)]
RUNGS_0 = np.zeros(64, dtype=np.int8)


def filled(*epochs: list[float | None], window: int | None = None) -> HardnessBuffer:
    """A buffer that has closed these epochs; None is a sample that the epoch did not score."""
    buffer = HardnessBuffer(len(epochs[0]), window or len(epochs))
    for scores in epochs:
        seen = [(uid, score) for uid, score in enumerate(scores) if score is not None]
        buffer.record([uid for uid, _ in seen], [score for _, score in seen], RUNGS_0[: len(seen)])
        buffer.close_epoch()
    return buffer


def rungs_of(buffer: HardnessBuffer, bounds=TWO) -> list[list[int]]:
    members = buffer.memberships(bounds)
    assert members is not None
    return [np.flatnonzero(row).tolist() for row in members]


# ---- scores


def test_confidence_is_the_probability_of_the_true_class() -> None:
    scores = sample_scores(torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]]), torch.tensor([1, 0]), "confidence")
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor([0.75, 0.25]))


def test_entropy_is_in_nats_and_ignores_the_label() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 500.0, 0.0], [0.0, math.log(3), -math.inf]])
    for label in range(3):
        scores = sample_scores(logits, torch.full((3,), label), "entropy")
        torch.testing.assert_close(scores, torch.tensor([math.log(3), 0.0, math.log(4) - 0.75 * math.log(3)]))


@pytest.mark.parametrize("kind", ["confidence", "entropy"])
def test_regression_scores_closeness_whatever_the_kind(kind) -> None:
    scores = sample_scores(torch.tensor([[2.0], [3.0], [9.0]]), torch.tensor([2.0, 5.0, 0.0]), kind, label_range=5.0)
    torch.testing.assert_close(scores, torch.tensor([1.0, 0.6, 0.0]))


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 18.0), (torch.bfloat16, 18.0)])
def test_a_confidence_of_exactly_one_is_easy(dtype, gap) -> None:
    logits = torch.tensor([[gap, 0.0]], dtype=dtype, requires_grad=True)
    score = sample_scores(logits, torch.tensor([0]), "confidence")
    assert score.item() == 1.0
    assert not score.requires_grad
    buffer = HardnessBuffer(1, 1)
    buffer.record(torch.tensor([0]), score, torch.tensor([1]))
    buffer.close_epoch()
    assert rungs_of(buffer) == [[0]]


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^hardness\.score: 'loss' is none of confidence, entropy"):
        sample_scores(torch.zeros(1, 2), torch.zeros(1), "loss")


# ---- memberships


@pytest.mark.parametrize(
    ("score", "bounds", "rungs"),
    [
        (1.0, TWO, [0]),
        (0.9, TWO, [0]),
        (0.8, TWO, [0, 1]),  # both bounds are included
        (0.79, TWO, [1]),
        (0.0, TWO, [1]),
        (0.5, [(0.2, 1.0), (0.0, 0.6)], [0, 1]),  # overlapping on purpose
        (0.1, [(0.2, 1.0), (0.0, 0.6)], [1]),
        (0.7, [(0.2, 1.0), (0.0, 0.6)], [0]),
        (0.5, [(0.8, 1.0), (0.0, 0.2)], [1]),  # in a gap: the top rung
        (0.5, [(0.8, 1.0), (0.6, 0.8), (0.0, 0.2)], [2]),
        (0.5, [(0.1, 1.0), (0.2, 0.5), (0.5, 0.5)], [0, 1, 2]),
        (7.5, [(0.0, 0.3), (0.3, math.inf)], [1]),
        (math.nan, TWO, [1]),
    ],
)
def test_bounds(score, bounds, rungs) -> None:
    assert rungs_of(filled([score]), bounds) == [rungs]


@pytest.mark.parametrize("bound", [0.1, 0.2, 0.3, 0.7, 0.85])
def test_a_bound_means_the_same_in_every_precision(bound) -> None:
    buffer = HardnessBuffer(2, 1)
    buffer.record(torch.tensor([0]), torch.tensor([bound]), torch.tensor([0]))
    buffer.record(np.array([1]), np.array([bound], dtype=np.float64), np.array([0]))
    buffer.close_epoch()
    assert rungs_of(buffer, [(bound, 1.0), (0.0, bound)]) == [[0, 1], [0, 1]]


def test_a_sample_must_stay_in_bounds_for_the_whole_window() -> None:
    buffer = filled([0.9, 0.9, 0.1, 0.9], [0.9, 0.1, 0.9, None])
    assert rungs_of(buffer) == [[0], [1], [1], [1]]


def test_no_membership_before_the_window_is_full() -> None:
    buffer = filled([0.9], window=3)
    assert buffer.num_epochs == 1
    assert buffer.memberships(TWO) is None
    for _ in range(2):
        assert buffer.memberships(TWO) is None
        buffer.record([0], [0.9], [1])
        buffer.close_epoch()
    assert rungs_of(buffer) == [[0]]


def test_the_window_forgets() -> None:
    assert rungs_of(filled([0.1, 0.9], [0.9, 0.9], [0.9, 0.1], window=2)) == [[0], [1]]
    assert rungs_of(filled([0.1, None], [0.9, 0.9], [0.9, 0.9], window=2)) == [[0], [0]]


def test_the_epoch_being_recorded_does_not_count_yet() -> None:
    buffer = filled([0.9])
    buffer.record([0], [0.1], [0])
    assert rungs_of(buffer) == [[0]]


# ---- recording


def test_the_first_score_of_a_repeated_sample_wins() -> None:
    buffer = HardnessBuffer(4, 1)
    buffer.record([2, 0, 2], [0.3, 0.5, 0.4], [1, 0, 0])
    buffer.record([0, 3], [0.9, 0.8], [1, 1])
    table = buffer.epoch_table()
    assert table["uid"].tolist() == [0, 2, 3]
    assert table["score"].tolist() == pytest.approx([0.5, 0.3, 0.8])
    assert table["rung"].tolist() == [0, 1, 1]
    buffer.close_epoch()
    assert [len(column) for column in buffer.epoch_table().values()] == [0, 0, 0]
    buffer.record([0], [0.7], [1])
    assert buffer.epoch_table()["score"].tolist() == pytest.approx([0.7])


def test_an_undefined_first_score_stays_first() -> None:
    buffer = HardnessBuffer(1, 1)
    buffer.record([0], [math.nan], [0])
    buffer.record([0], [0.9], [0])
    buffer.close_epoch()
    assert rungs_of(buffer) == [[1]]


def test_tensors_of_any_kind_are_recorded() -> None:
    buffer = HardnessBuffer(3, 1)
    scores = torch.tensor([0.5, 0.25], dtype=torch.bfloat16, requires_grad=True)
    buffer.record(torch.tensor([2, 0]), scores, torch.tensor([1, 0]))
    buffer.record(torch.tensor([], dtype=torch.long), torch.tensor([]), torch.tensor([], dtype=torch.long))
    assert buffer.epoch_table()["score"].tolist() == [0.25, 0.5]


def test_what_lies_on_a_device_is_read_when_it_is_asked_for_or_has_become_much(monkeypatch) -> None:
    reads = []

    class OnDevice:
        def __init__(self, *values: float) -> None:
            self.values = torch.tensor(values)

        def detach(self) -> torch.Tensor:
            reads.append(self)
            return self.values

    def record() -> HardnessBuffer:
        buffer = HardnessBuffer(3, 1)
        buffer.record(OnDevice(1, 2), OnDevice(0.5, 0.25), OnDevice(0, 1), 0)
        buffer.record(OnDevice(2, 0), OnDevice(0.125, 1.0), OnDevice(1, 0), 1)
        return buffer

    buffer = record()
    assert not reads
    assert buffer.epoch_table()["score"].tolist() == [1.0, 0.5, 0.25]
    assert len(reads) == 6
    for ask in ("recorded", "state_dict", "close_epoch"):
        reads.clear()
        getattr(record(), ask)()
        assert len(reads) == 6, ask
    monkeypatch.setattr("sharcs_pl.core.hardness._MOST_UNREAD", 2)
    reads.clear()
    record()
    assert len(reads) == 6


@pytest.mark.parametrize("uid", [-1, 3])
def test_a_uid_outside_the_training_set_is_a_bug(uid) -> None:
    buffer = HardnessBuffer(3, 1)
    buffer.record([uid], [0.5], [0])
    with pytest.raises(AssertionError):
        buffer.recorded()


def test_the_earliest_step_wins_within_a_call_too() -> None:
    buffer = HardnessBuffer(2, 1)
    buffer.record([0, 1, 0], [0.1, 0.2, 0.3], [0, 0, 1], steps=[3, 2, 1])
    assert buffer.epoch_table()["score"].tolist() == pytest.approx([0.3, 0.2])


def test_merging_ranks_keeps_the_earliest_step_then_the_lowest_rank() -> None:
    ranks = [HardnessBuffer(4, 1) for _ in range(2)]
    ranks[0].record([0, 1], [0.1, 0.1], [0, 0], steps=0)
    ranks[0].record([2, 3], [0.2, 0.2], [0, 0], steps=3)
    ranks[1].record([0], [0.3], [1], steps=0)
    ranks[1].record([2], [0.4], [1], steps=1)
    tables = [rank.recorded() for rank in ranks]
    for rank in ranks:
        rank.merge(tables)  # what a rank holds of its own has no precedence on it
        assert rank.epoch_table()["score"].tolist() == pytest.approx([0.1, 0.1, 0.4, 0.2])
        assert rank.epoch_table()["rung"].tolist() == [0, 0, 1, 0]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, width=32)), max_size=6), max_size=8),
    st.sampled_from([1, 2, 3]),
)
def test_any_number_of_ranks_merges_to_one_table(steps: list[list[tuple[int, float]]], world: int) -> None:
    alone, merged = HardnessBuffer(10, 1), HardnessBuffer(10, 1)
    ranks = [HardnessBuffer(10, 1) for _ in range(world)]
    for step, samples in enumerate(steps):
        samples = list(dict(reversed(samples)).items())  # one score per sample and step
        alone.record([uid for uid, _ in samples], [score for _, score in samples], RUNGS_0[: len(samples)], step)
        for rank in range(world):
            own = samples[rank::world]
            ranks[rank].record([uid for uid, _ in own], [score for _, score in own], RUNGS_0[: len(own)], step)
    merged.merge([rank.recorded() for rank in ranks])
    assert all(np.array_equal(a, b) for a, b in zip(alone.recorded(), merged.recorded(), strict=True))


@settings(deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(0, 3))
def test_memberships_follow_their_definition(data, window: int, extra: int) -> None:
    score = st.none() | st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]) | st.floats(0, 1, width=32)
    epochs = data.draw(
        st.lists(st.lists(score, min_size=3, max_size=3), min_size=window + extra, max_size=window + extra)
    )
    edge = st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])
    bounds = [tuple(sorted(data.draw(st.tuples(edge, edge)))) for _ in range(data.draw(st.integers(1, 4)))]
    for uid, got in enumerate(rungs_of(filled(*epochs, window=window), bounds)):
        last = [scores[uid] for scores in epochs[-window:]]
        known = [np.float32(value) for value in last if value is not None]
        fits = [
            np.float32(lo) <= min(known) and max(known) <= np.float32(hi) for lo, hi in bounds if len(known) == window
        ]
        assert got == (np.flatnonzero(fits).tolist() or [len(bounds) - 1])


# ---- checkpoints


def test_a_half_recorded_epoch_survives_a_weights_only_checkpoint() -> None:
    buffer = filled([0.9, 0.9, None], [0.9, 0.1, 0.9], [0.9, 0.9, 0.9], window=2)
    buffer.record([1, 0], [0.9, 0.85], [1, 0], steps=4)
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    resumed = HardnessBuffer(3, 2)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for each in (buffer, resumed):
        each.record([1, 2], [0.0, 0.7], [0, 0], steps=5)
    assert resumed.num_epochs == buffer.num_epochs == 3
    assert all(np.array_equal(a, b) for a, b in zip(buffer.recorded(), resumed.recorded(), strict=True))
    assert resumed.epoch_table()["score"].tolist() == pytest.approx([0.85, 0.9, 0.7])
    for each in (buffer, resumed):
        assert rungs_of(each) == [[0], [1], [0]]
        each.close_epoch()
        assert rungs_of(each) == [[0], [0], [1]]


def test_a_checkpoint_shares_no_memory_with_a_buffer() -> None:
    buffer, other = filled([0.9]), HardnessBuffer(1, 1)
    state = buffer.state_dict()
    other.load_state_dict(state)
    for each in (buffer, other):
        each.record([0], [0.1], [1], steps=2)
        each.close_epoch()
        each.record([0], [0.1], [1], steps=2)
        assert state["ring"].item() == pytest.approx(0.9)
    fresh = HardnessBuffer(1, 1)
    fresh.load_state_dict(state)
    assert rungs_of(fresh) == [[0]]
    assert fresh.num_epochs == 1
    assert len(fresh.epoch_table()["uid"]) == 0
    other.load_state_dict(state)
    other.record([0], [0.1], [1])
    assert int(state["rungs"]) == -1
    assert state["scores"].isnan().all()


def test_a_checkpoint_of_another_run_is_refused() -> None:
    state = filled([0.9, 0.9], [0.9, 0.9]).state_dict()
    with pytest.raises(ValueError, match=r"^hardness\.window: .*2.*1"):
        HardnessBuffer(2, 1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"^task: .*2 samples.*3"):
        HardnessBuffer(3, 2).load_state_dict(state)
    with pytest.raises(ValueError, match=r"^hardness\.window: 0"):
        HardnessBuffer(3, 0)


def test_configs_are_checked_without_importing_torch() -> None:
    modules = "widths, sharcs_pl.core.plan, sharcs_pl.core.flops, sharcs_pl.core.hardness"
    code = f"import sys, sharcs_pl.core.{modules}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_hardness_of_several_labels_is_the_mean_over_labels() -> None:
    logits, labels = torch.tensor([[2.0, -1.0], [0.0, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    p = logits.sigmoid()
    truth = torch.where(labels > 0, p, 1 - p)
    assert sample_scores(logits, labels, "confidence").tolist() == pytest.approx(truth.mean(1).tolist(), abs=1e-6)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean(1)
    assert sample_scores(logits, labels, "entropy").tolist() == pytest.approx(entropy.tolist(), abs=1e-6)
