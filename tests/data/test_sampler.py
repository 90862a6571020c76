from __future__ import annotations

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharcs_pl.core.plan import EpochPlan, PlanConfig, make_plan
from sharcs_pl.data.sampler import PlanLoader, PlanSampler, StepBatch, eval_loader, feeding
from sharcs_pl.data.table import TokenTable


def make_table(size: int, seed: int = 0, difficulty: bool = False) -> TokenTable:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 12, size)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(1, 99, offsets[-1]).astype(np.int32)
    planted = rng.integers(0, 4, size).astype(np.int8) if difficulty else None
    return TokenTable(ids, None, offsets, 0, rng.integers(0, 2, size), planted)


def two_rung_plan(table: TokenTable, epoch: int = 1, batch_size: int = 8, routed: bool = True) -> EpochPlan:
    narrow = np.arange(len(table)) % 3 == 0
    memberships = np.stack([narrow, ~narrow], axis=1) if routed else None
    return make_plan(memberships, table.lengths, PlanConfig(batch_size, 2), seed=1, epoch=epoch)


def described(step: StepBatch) -> tuple:
    parts = [(b.slot, b.rung, b.uids.tolist(), b.inputs["input_ids"].tolist()) for b in step.batches]
    return step.epoch, step.step, parts


TABLE = make_table(100)
PLAN = two_rung_plan(TABLE)
STEPS = [described(step) for step in PlanLoader(TABLE, PLAN)]


def test_a_loader_gives_the_plan():
    loader = PlanLoader(TABLE, PLAN)
    assert len(loader) == len(STEPS) == PLAN.num_steps > 3
    for number, step in enumerate(loader):
        planned = PLAN.step(number)
        assert (step.epoch, step.step, len(step.batches)) == (1, number, len(planned))
        for batch, plan in zip(step.batches, planned, strict=True):
            assert batch.uids.tolist() == plan.indices.tolist()
            assert (batch.rung, batch.slot, batch.shard) == (plan.rung, plan.slot, plan.shard)
            assert (batch.count, batch.num_batches) == (plan.count, plan.num_batches)


def test_a_micro_batch_holds_its_samples_rows():
    for step in PlanLoader(TABLE, PLAN):
        for batch in step.batches:
            assert batch.memberships is not None
            assert batch.memberships.dtype == torch.float32
            assert batch.memberships.argmax(1).tolist() == [0 if uid % 3 == 0 else 1 for uid in batch.uids.tolist()]
            assert batch.labels.tolist() == TABLE.labels[batch.uids.numpy()].tolist()
            assert set(batch.inputs) == {"input_ids", "attention_mask"}
            real = batch.inputs["attention_mask"].sum(1)
            assert real.tolist() == TABLE.lengths[batch.uids.numpy()].tolist()


def test_without_memberships_there_are_none():
    step = next(iter(PlanLoader(TABLE, two_rung_plan(TABLE, routed=False))))
    assert all(batch.memberships is None and batch.rung == 1 for batch in step.batches)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # on a machine of one core
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_state_taken_in_mid_epoch_resumes_at_the_next_step(num_workers: int):
    first = PlanLoader(TABLE, PLAN, num_workers=num_workers)
    steps = iter(first)
    seen = [described(next(steps)) for _ in range(2)]
    state = first.state_dict()
    assert state == {"epoch": 1, "step": 2}  # delivered, although workers have fetched more
    resumed = PlanLoader(TABLE, PLAN, num_workers=num_workers)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(resumed) == PLAN.num_steps
    assert seen + [described(step) for step in resumed] == STEPS
    assert resumed.state_dict() == {"epoch": 1, "step": PLAN.num_steps}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_run_ends_no_worker_of_it(number: signal.Signals):
    steps = iter(PlanLoader(TABLE, PLAN, num_workers=1))
    seen = [described(next(steps))]
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, number)
    assert seen + [described(step) for step in steps] == STEPS


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (3, 2), (64, 4)])
def test_a_gpu_is_fed_by_a_few_processes_from_pinned_memory(monkeypatch, cores: int, workers: int):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    gpu, cpu = torch.device("cuda", 1), torch.device("cpu")
    assert feeding(gpu) == {"num_workers": workers, "pin_memory": True}
    assert feeding(gpu, 0) == {"num_workers": 0, "pin_memory": True}
    assert feeding(cpu) == {"num_workers": 0, "pin_memory": False}
    assert feeding(cpu, 2) == {"num_workers": 2, "pin_memory": False}


def test_a_loaded_position_holds_for_one_pass():
    loader = PlanLoader(TABLE, PLAN)
    loader.load_state_dict({"epoch": 1, "step": 3})
    assert [described(step) for step in loader] == STEPS[3:]
    assert [described(step) for step in loader] == STEPS


def test_a_state_loaded_after_iter_still_counts():
    loader = PlanLoader(TABLE, PLAN)
    steps = iter(loader)
    loader.load_state_dict({"epoch": 1, "step": 3})
    assert described(next(steps)) == STEPS[3]


def test_a_pass_that_is_broken_off_starts_again_from_the_first_step():
    loader = PlanLoader(TABLE, PLAN)
    next(iter(loader))
    assert described(next(iter(loader))) == STEPS[0]
    assert loader.state_dict()["step"] == 1


def test_the_state_of_another_epoch_is_ignored():
    loader = PlanLoader(TABLE, PLAN)
    loader.load_state_dict({"epoch": 0, "step": 3})
    assert loader.state_dict() == {"epoch": 1, "step": 0}
    assert [described(step) for step in loader] == STEPS


def test_a_state_is_plain_numbers():
    loader = PlanLoader(TABLE, PLAN)
    next(iter(loader))
    assert all(type(value) is int for value in loader.state_dict().values())


@given(size=st.integers(1, 60), world=st.sampled_from([1, 2, 4, 6]), batch_size=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_the_ranks_together_run_the_step_once(size: int, world: int, batch_size: int):
    table = make_table(size)
    plan = two_rung_plan(table, batch_size=batch_size)
    ranks = [list(PlanLoader(table, plan, rank, world)) for rank in range(world)]
    for whole, *shares in zip(PlanLoader(table, plan), *ranks, strict=True):
        assert {share.step for share in shares} == {whole.step}
        for batch in whole.batches:
            parts = [part for share in shares for part in share.batches if part.slot == batch.slot]
            uids = [uid for part in parts for uid in part.uids.tolist()]
            assert sorted(uids) == sorted(batch.uids.tolist())
            assert {part.count for part in parts} == {len(batch.uids)}


def test_an_empty_shard_is_a_batch_of_no_samples():
    table = make_table(1)
    plan = make_plan(None, table.lengths, PlanConfig(4, 1), seed=1, epoch=0)
    (step,) = PlanLoader(table, plan, rank=1, world=2)
    (batch,) = step.batches
    assert batch.inputs["input_ids"].shape == (0, 1)
    assert (len(batch.uids), batch.count) == (0, 1)


def test_a_plan_for_another_table_is_a_fault():
    with pytest.raises(AssertionError, match="another table"):
        PlanLoader(make_table(99), PLAN)


def test_a_sampler_starts_where_it_is_told():
    sampler = PlanSampler(5, start=3)
    assert list(sampler) == [3, 4]
    assert len(sampler) == 5


def test_every_tensor_of_a_step_moves():
    (batch, *_), moved = next(iter(PlanLoader(TABLE, PLAN))).batches, None
    moved = batch.to("meta")
    assert moved.memberships is not None
    tensors = [moved.labels, moved.uids, moved.memberships, *moved.inputs.values()]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert (moved.rung, moved.count) == (batch.rung, batch.count)
    step = next(iter(PlanLoader(TABLE, PLAN))).to("meta")
    assert all(part.labels.device.type == "meta" for part in step.batches)


@given(size=st.integers(0, 50), batch_size=st.integers(1, 12), world=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_evaluation_sees_every_sample_once_with_its_own_rows(size: int, batch_size: int, world: int):
    table = make_table(size, difficulty=True)
    seen: list[int] = []
    for rank in range(world):
        for batch in eval_loader(table, batch_size, rank, world):
            uids = batch.uids.numpy()
            seen += uids.tolist()
            assert batch.lengths.tolist() == table.lengths[uids].tolist()
            assert batch.inputs["attention_mask"].sum(1).tolist() == batch.lengths.tolist()
            assert batch.labels.tolist() == table.labels[uids].tolist()
            assert batch.difficulty is not None
            assert table.difficulty is not None
            assert batch.difficulty.tolist() == table.difficulty[uids].tolist()
    assert sorted(seen) == list(range(size))


def test_evaluation_wastes_little_on_padding():
    table = make_table(500)
    slots = sum(batch.inputs["input_ids"].numel() for batch in eval_loader(table, 16))
    assert slots < 1.05 * table.lengths.sum()


def test_an_evaluation_batch_moves_and_may_know_no_difficulty():
    batch = next(iter(eval_loader(TABLE, 16))).to("meta")
    assert batch.difficulty is None
    assert batch.lengths.device.type == batch.inputs["input_ids"].device.type == "meta"


def test_an_evaluation_batch_needs_room():
    with pytest.raises(ValueError, match="eval_batch_size"):
        eval_loader(TABLE, 0)
