from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharcs_pl.core.plan import EpochPlan, PlanConfig, check_world, make_plan

LENGTHS = np.random.default_rng(7).integers(3, 120, size=5000)


def spread(*sizes: int) -> np.ndarray:
    """Memberships of one rung per sample, so many samples per rung."""
    return np.repeat(np.eye(len(sizes), dtype=bool), sizes, axis=0)


def planned(memberships: np.ndarray | None, batch: int = 4, *, samples: int = 0, epoch: int = 3, **config) -> EpochPlan:
    count, rungs = (samples, config.pop("num_rungs")) if memberships is None else memberships.shape
    return make_plan(memberships, LENGTHS[:count], PlanConfig(batch, rungs, **config), seed=1, epoch=epoch)


def slots_of(plan: EpochPlan) -> list[dict[int, tuple[int, int]]]:
    """Per step: slot -> (rung, count)."""
    return [{batch.slot: (batch.rung, batch.count) for batch in plan.step(s)} for s in range(plan.num_steps)]


def seen(plan: EpochPlan) -> Counter:
    """How often the epoch runs each sample."""
    return Counter(int(i) for s in range(plan.num_steps) for batch in plan.step(s) for i in batch.indices)


def batches(plan: EpochPlan) -> list[np.ndarray]:
    return [batch.indices for s in range(plan.num_steps) for batch in plan.step(s)]


# ---- any number of processes runs the same steps


@pytest.mark.parametrize("rungs", [1, 2, 3, 4])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_ranks_together_run_the_step(world: int, rungs: int) -> None:
    plan = planned(spread(*[7, 29, 41, 18][:rungs]), 5)
    if rungs % world and world % rungs:
        with pytest.raises(ValueError, match=r"^trainer\.devices: "):
            plan.local(0, 0, world)
        return
    for s in range(plan.num_steps):
        ranks = [plan.local(s, rank, world) for rank in range(world)]
        for whole in plan.step(s):
            shards = [batch for rank in ranks for batch in rank if batch.slot == whole.slot]
            together = np.concatenate([batch.indices for batch in shards])
            assert sorted(together.tolist()) == sorted(whole.indices.tolist())
            assert {(b.rung, b.count, b.num_batches) for b in shards} == {(whole.rung, whole.count, whole.num_batches)}
            assert [batch.shard for batch in shards] == list(range(max(1, world // rungs)))
            assert all((b.indices == whole.indices[b.shard :: len(shards)]).all() for b in shards)
        assert {batch.slot for rank in ranks for batch in rank} == {batch.slot for batch in plan.step(s)}


def test_one_rank_per_rung_when_they_are_as_many() -> None:
    plan = planned(spread(9, 9, 9), 3)
    assert [[b.rung for b in plan.local(0, rank, 3)] for rank in range(3)] == [[0], [1], [2]]


def test_few_ranks_take_contiguous_runs_and_many_share() -> None:
    plan = planned(spread(9, 9, 9, 9), 3)
    assert [[b.slot for b in plan.local(0, rank, 2)] for rank in range(2)] == [[0, 1], [2, 3]]
    shares = [[(b.slot, b.shard) for b in plan.local(0, rank, 8)] for rank in range(8)]
    assert shares == [[(slot, shard)] for slot in range(4) for shard in range(2)]


def test_a_shard_may_be_empty_but_takes_part() -> None:
    plan = planned(spread(5), 4)
    (small,) = [s for s in range(plan.num_steps) if plan.step(s)[0].count == 1]
    shares = [plan.local(small, rank, 4) for rank in range(4)]
    assert [len(share) for share in shares] == [1] * 4
    assert [len(share[0].indices) for share in shares] == [1, 0, 0, 0]
    assert {share[0].count for share in shares} == {1}


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 6])
def test_worlds_that_fit_are_divisors_and_multiples(slots: int) -> None:
    for world in range(-1, 25):
        if world > 0 and (slots % world == 0 or world % slots == 0):
            check_world(world, slots)
            continue
        with pytest.raises(ValueError, match=rf"^trainer\.devices: {world} processes .* multiple of {slots}$"):
            check_world(world, slots)
    with pytest.raises(ValueError, match="what fits: 1, 2, 3, 6, or a multiple of 6"):
        check_world(4, 6)


# ---- pure


def test_a_plan_is_pure() -> None:
    members = np.random.default_rng(0).random((300, 3)) < 0.5
    members[:, -1] |= ~members.any(axis=1)
    before, lengths = members.copy(), LENGTHS.copy()
    plan = planned(members)
    assert plan.digest() == planned(members.copy()).digest() == plan.digest()
    assert (members == before).all()
    assert (lengths == LENGTHS).all()
    assert plan.memberships is not None
    assert (plan.memberships == before).all()


def test_another_process_makes_the_same_plan() -> None:
    code = """
import numpy as np
from sharcs_pl.core.plan import PlanConfig, make_plan
plan = make_plan(np.eye(2, dtype=bool)[np.arange(99) % 2], np.arange(99), PlanConfig(4, 2), seed=5, epoch=1)
print(plan.digest())"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)]
    members = np.eye(2, dtype=bool)[np.arange(99) % 2]
    here = make_plan(members, np.arange(99), PlanConfig(4, 2), seed=5, epoch=1).digest()
    assert {run.decode().strip() for run in runs} == {here}


def test_the_digest_tells_plans_apart() -> None:
    members, other = spread(20, 30), spread(20, 30)
    other[0, 1] = True
    kinds = [PlanConfig(4, 2), PlanConfig(5, 2), PlanConfig(4, 2, 3), PlanConfig(4, 2, fill="none")]
    plans = [make_plan(members, LENGTHS[:50], kind, seed=1, epoch=3) for kind in kinds]
    for seed, epoch in [(2, 3), (1, 4), (3, 1)]:
        plans.append(make_plan(members, LENGTHS[:50], kinds[0], seed=seed, epoch=epoch))
    plans.append(make_plan(other, LENGTHS[:50], kinds[0], seed=1, epoch=3))
    plans.append(make_plan(members, LENGTHS[50:100], kinds[0], seed=1, epoch=3))
    (*others, last), whole = plans[0].buckets, plans[0]
    plans.append(replace(whole, buckets=(*others, replace(last, begins=last.begins[::-1]))))
    plans.append(replace(whole, buckets=(*others, replace(last, order=last.order[::-1]))))
    assert len({plan.digest() for plan in plans}) == len(plans)


# ---- filling


@pytest.mark.parametrize(("sizes", "copies"), [((8, 32), 4), ((16, 32), 2), ((32, 8), 4), ((16, 16), 1), ((4, 32), 4)])
def test_whole_multiples_are_repeated_exactly(sizes, copies) -> None:
    plan = planned(spread(*sizes))
    counts = seen(plan)
    small = int(np.argmin(sizes))
    for rung in range(2):
        times = {counts[i] for i in range(sum(sizes)) if plan.rungs[i] == rung}
        assert times == {copies if rung == small else 1}


def test_the_rest_of_a_multiple_is_drawn_at_random() -> None:
    plans = [planned(spread(10, 25), epoch=epoch) for epoch in range(20)]
    drawn = [frozenset(i for i in range(10) if seen(plan)[i] == 3) for plan in plans]
    assert {len(extra) for extra in drawn} == {5}
    assert all(set(seen(plan).values()) == {1, 2, 3} for plan in plans)
    assert frozenset.union(*drawn) == set(range(10))
    assert len(set(drawn)) > 10


@pytest.mark.parametrize(("cap", "held"), [(1, 3), (2, 6), (4, 12), (100, 100)])
def test_nothing_is_repeated_beyond_the_cap(cap: int, held: int) -> None:
    plan = planned(spread(3, 100), repeat_cap=cap)
    narrow = [step[0] for step in slots_of(plan) if 0 in step]
    assert sum(count for _, count in narrow) == held
    assert len(slots_of(plan)) == 25
    assert len(narrow) == ceil(held / 4)


def test_an_exhausted_rung_adds_nothing_to_later_steps() -> None:
    plan = planned(spread(3, 100), repeat_cap=1)
    steps = slots_of(plan)
    assert steps[0] == {0: (0, 3), 1: (1, 4)}
    assert all(step == {1: (1, 4)} for step in steps[1:])
    assert [plan.step(s)[0].num_batches for s in range(25)] == [2] + [1] * 24
    assert plan.local(1, 0, 2) == []


def test_without_filling_each_sample_runs_once() -> None:
    plan = planned(spread(3, 20, 100), fill="none")
    assert seen(plan) == Counter(range(123))
    assert plan.num_steps == 25


def test_final_partial_batches_are_kept() -> None:
    for samples, counts in [(10, [2, 4, 4]), (1, [1]), (8, [4, 4]), (9, [1, 4, 4])]:
        assert sorted(step[0][1] for step in slots_of(planned(spread(samples)))) == counts


def test_a_small_bucket_is_not_repeated_inside_a_batch() -> None:
    plan = planned(spread(20, 80), 5)
    assert {seen(plan)[i] for i in range(20)} == {4}
    assert all(len(set(found.tolist())) == len(found) for found in batches(plan))


def test_filling_reaches_the_longest_buckets_last_step() -> None:
    # 7 samples in the top rung's two slots take 4 steps of one sample a slot; so does the narrow rung.
    plan = planned(spread(2, 0, 7), 1)
    assert [sorted(step) for step in slots_of(plan)] == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1]]


# ---- empty buckets and slots


def test_the_top_rung_takes_every_slot_during_the_window() -> None:
    plan = planned(None, samples=50, num_rungs=3)
    assert plan.memberships is None
    assert plan.bucket_sizes.tolist() == [0, 0, 50]
    assert plan.num_steps == ceil(ceil(50 / 4) / 3) == 5
    assert seen(plan) == Counter(range(50))
    steps = slots_of(plan)
    assert all(list(step) == [0, 1, 2] for step in steps[:-1])
    assert {rung for step in steps for rung, _ in step.values()} == {2}


def test_an_empty_bucket_gives_its_slot_to_the_top_rung() -> None:
    plan = planned(spread(40, 0, 40))
    assert plan.bucket_sizes.tolist() == [40, 0, 40]
    # 40 samples in one slot, 40 in two: the top bucket is repeated to 80.
    assert plan.num_steps == 10
    assert all(step == {0: (0, 4), 1: (2, 4), 2: (2, 4)} for step in slots_of(plan))
    assert planned(spread(0, 40)).num_steps == 5


def test_an_empty_top_bucket_leaves_its_slot_empty() -> None:
    plan = planned(spread(12, 8, 0))
    assert plan.bucket_sizes.tolist() == [12, 8, 0]
    assert slots_of(plan) == [{0: (0, 4), 1: (1, 4)}] * 3
    assert [plan.local(0, rank, 3) == [] for rank in range(3)] == [False, False, True]


def test_spare_slots_belong_to_the_top_rung() -> None:
    plan = planned(spread(8, 24), batches_per_step=4)
    assert slots_of(plan) == [{0: (0, 4), 1: (1, 4), 2: (1, 4), 3: (1, 4)}] * 2


def test_no_samples_no_steps() -> None:
    plan = planned(None, samples=0, num_rungs=2)
    assert plan.num_steps == plan.token_slots(LENGTHS[:0]) == 0
    assert plan.digest() == planned(None, samples=0, num_rungs=2).digest()


@pytest.mark.parametrize(("minimum", "steps"), [(0, 5), (5, 5), (6, 6), (40, 40)])
@pytest.mark.parametrize("fill", ["repeat", "none"])
def test_a_dense_control_makes_as_many_steps(minimum: int, steps: int, fill: str) -> None:
    plan = planned(spread(33), batches_per_step=2, min_steps=minimum, fill=fill)
    assert plan.num_steps == steps
    counts = seen(plan)
    assert len(counts) == 33
    assert max(counts.values()) - min(counts.values()) <= 1
    if minimum <= 5:
        assert counts == Counter(range(33))


# ---- draws


def test_a_member_of_several_is_drawn_for_one_of_them() -> None:
    members = np.tile([[True, False, True, True], [False, True, False, False]], (1500, 1))
    plan = make_plan(members, LENGTHS[:3000], PlanConfig(4, 4), seed=1, epoch=3)
    assert members[np.arange(3000), plan.rungs].all()
    assert (plan.rungs[1::2] == 1).all()
    shares = np.bincount(plan.rungs[::2], minlength=4) / 1500
    assert shares == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.05)
    assert plan.bucket_sizes.tolist() == np.bincount(plan.rungs).tolist()
    later = make_plan(members, LENGTHS[:3000], PlanConfig(4, 4), seed=1, epoch=4)
    assert 0.25 < np.mean(later.rungs[::2] == plan.rungs[::2]) < 0.42


def test_a_member_of_nothing_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="member of no rung"):
        planned(np.zeros((4, 2), dtype=bool))


# ---- lengths


def test_grouping_by_length_saves_padding() -> None:
    plan, tokens = planned(spread(5000), 16), int(LENGTHS.sum())
    blind = make_plan(None, np.ones(5000, dtype=int), PlanConfig(16, 1), seed=1, epoch=3)
    grouped, ungrouped = plan.token_slots(LENGTHS) - tokens, blind.token_slots(LENGTHS) - tokens
    assert 0 < grouped < 0.06 * ungrouped


def test_token_slots_are_counted_batch_by_batch() -> None:
    plan = planned(spread(3, 40, 57))
    expected = sum(len(found) * int(LENGTHS[found].max()) for found in batches(plan))
    assert plan.token_slots(LENGTHS) == expected
    assert plan.token_slots(LENGTHS.astype(np.int16)) == expected


def test_batches_are_drawn_anew_each_epoch() -> None:
    # Lengths without ties: sorting the whole bucket would give every epoch the same batches.
    config, lengths = PlanConfig(16, 1), np.arange(5000)
    first, second = (make_plan(None, lengths, config, seed=1, epoch=epoch) for epoch in (3, 4))
    groups = [{frozenset(found.tolist()) for found in batches(plan)} for plan in (first, second)]
    assert len(groups[0] & groups[1]) == 0


def test_an_epoch_does_not_run_from_short_to_long() -> None:
    plan = planned(spread(800), 16)
    longest = [LENGTHS[found].max() for found in batches(plan)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


# ---- config


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"fill": "pad"}, r"hardness\.fill"),
        ({"repeat_cap": 0}, r"hardness\.repeat_cap"),
        ({"batches_per_step": 1}, "batches_per_step"),
        ({"min_steps": 3}, "min_steps"),
        ({"num_rungs": 1, "min_steps": -1}, "min_steps"),
    ],
)
def test_a_faulty_config_names_its_key(config, key) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        PlanConfig(**{"batch_size": 4, "num_rungs": 2, **config})


# ---- everything at once


@st.composite
def cases(draw) -> tuple[np.ndarray, PlanConfig, int]:
    rungs = draw(st.integers(1, 4))
    rows = draw(st.lists(st.integers(1, 2**rungs - 1), max_size=60))
    members = (np.array(rows, dtype=int)[:, None] >> np.arange(rungs)) & 1 == 1
    slots, batch = draw(st.integers(rungs, rungs + 3)), draw(st.integers(1, 9))
    fill, cap = draw(st.sampled_from(["repeat", "none"])), draw(st.integers(1, 6))
    fitting = [world for world in range(1, 3 * slots + 1) if slots % world == 0 or world % slots == 0]
    return members, PlanConfig(batch, rungs, slots, fill, cap), draw(st.sampled_from(fitting))


@settings(deadline=None, max_examples=150)
@given(cases(), st.integers(0, 2**40), st.integers(0, 50))
def test_every_plan_keeps_its_promises(case, seed: int, epoch: int) -> None:
    members, config, world = case
    plan = make_plan(members, LENGTHS[: len(members)], config, seed=seed, epoch=epoch)
    counts, sizes = seen(plan), plan.bucket_sizes
    assert set(counts) == set(range(len(members)))
    assert members[np.arange(len(members)), plan.rungs].all()
    narrow = [1 if size else 0 for size in sizes[:-1]]
    width = [*narrow, config.batches_per_step - sum(narrow)]
    # Filling never makes an epoch longer than its longest bucket.
    needed = [ceil(ceil(n / config.batch_size) / w) for n, w in zip(sizes, width, strict=True) if n]
    assert plan.num_steps == max(needed, default=0)
    for rung, size in enumerate(sizes):
        times = [counts[i] for i in np.flatnonzero(plan.rungs == rung).tolist()]
        assert not size or max(times) - min(times) <= 1
        assert all(n <= (config.repeat_cap if config.fill == "repeat" else 1) for n in times)
    for s in range(plan.num_steps):
        step = plan.step(s)
        assert step
        ranks = [batch for rank in range(world) for batch in plan.local(s, rank, world)]
        together = Counter((b.slot, b.rung, int(i)) for b in ranks for i in b.indices)
        assert together == Counter((b.slot, b.rung, int(i)) for b in step for i in b.indices)
        for batch in step:
            assert batch.count == len(batch.indices) <= config.batch_size
            assert batch.num_batches == len(step)
            assert (plan.rungs[batch.indices] == batch.rung).all()
            assert batch.rung == batch.slot or batch.rung == config.num_rungs - 1


def test_where_every_rung_is_trained_all_samples_fill_all_slots_and_keep_their_memberships() -> None:
    members = np.array([[True, True], [False, True], [True, False]] * 7)
    lengths = np.arange(21) % 5 + 3
    config = PlanConfig(batch_size=4, num_rungs=2, every_rung=True)
    plan, before = (make_plan(given, lengths, config, seed=1, epoch=3) for given in (members, None))
    assert plan.num_steps == 3
    batches = [batch for step in range(plan.num_steps) for batch in plan.step(step)]
    assert {batch.rung for batch in batches} == {1}
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(21))
    assert plan.bucket_sizes.tolist() == [14, 7]  # as the router is told: the narrowest of a sample's rungs
    assert plan.memberships is members
    assert [b.indices.tolist() for b in batches] == [b.indices.tolist() for s in range(3) for b in before.step(s)]


@pytest.mark.parametrize(("world", "slots"), [(2, 3), (4, 3), (3, 2), (8, 3)])
def test_one_bucket_is_shared_by_any_number_of_processes(world: int, slots: int) -> None:
    lengths = np.arange(25) % 5 + 3
    config = PlanConfig(batch_size=4, num_rungs=slots, every_rung=True)
    plan = make_plan(None, lengths, config, seed=1, epoch=0)
    for s in range(plan.num_steps):
        ranks = [plan.local(s, rank, world) for rank in range(world)]
        for whole in plan.step(s):
            shards = [batch for rank in ranks for batch in rank if batch.slot == whole.slot]
            assert [(b.shard, b.count, b.num_batches) for b in shards] == [
                (rank, whole.count, whole.num_batches) for rank in range(world)
            ]
            together = np.concatenate([b.indices for b in shards])
            assert sorted(together.tolist()) == sorted(whole.indices.tolist())
