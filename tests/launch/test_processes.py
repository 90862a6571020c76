"""Which process is the first, and what it decides for the others."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from sharcs_pl.launch.processes import DECISION, broadcast_from_rank_zero, is_lost_peer, is_rank_zero, is_single_process


@pytest.mark.parametrize(
    ("env", "main"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, True),  # started by its user, who has run Lightning before
        ({"LOCAL_RANK": "1"}, False),  # by Lightning
        ({"NODE_RANK": "1"}, False),  # the user's own on a second machine
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),  # by torchrun
        ({"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),  # by srun
        ({"SLURM_PROCID": "3", "SLURM_LOCALID": "0"}, False),
    ],
)
def test_the_first_process_is_known_from_what_its_launcher_sets(env: dict[str, str], main: bool) -> None:
    assert is_rank_zero(env) is main


@pytest.mark.parametrize(
    ("env", "alone"),
    [({}, True), ({"SLURM_NTASKS": "1"}, True), ({"SLURM_NTASKS": "2"}, False), ({"RANK": "0"}, False)],
)
def test_a_process_that_others_wait_for_is_not_alone(env: dict[str, str], alone: bool) -> None:
    assert is_single_process(env) is alone


def trainer(*, external: bool, first: bool = True, world: int = 2, heard: Any = ()) -> Any:
    said: list[Any] = []

    def broadcast(value: Any) -> Any:
        said.append(value)
        return value if first else list(heard)

    strategy = SimpleNamespace(
        cluster_environment=SimpleNamespace(creates_processes_externally=external),
        is_global_zero=first,
        setup_environment=lambda: said.append("set up"),
        broadcast=broadcast,
        said=said,
    )
    return SimpleNamespace(world_size=world, strategy=strategy)


def fails() -> None:
    raise ValueError("taken")


def test_alone_nothing_is_told() -> None:
    one = trainer(external=False, world=1)
    assert broadcast_from_rank_zero(one, lambda: "here") == "here"
    assert one.strategy.said == []


def test_processes_that_are_started_later_find_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DECISION, json.dumps("stale"))
    assert broadcast_from_rank_zero(trainer(external=False), lambda: ["here", None]) == ["here", None]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert broadcast_from_rank_zero(trainer(external=True, first=False), fails) == ["here", None]
    assert json.loads(os.environ[DECISION]) == ["here", None]


def test_processes_that_run_already_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DECISION, raising=False)
    first = trainer(external=True)
    assert broadcast_from_rank_zero(first, lambda: "here") == "here"
    assert first.strategy.said == ["set up", ["here"]]
    assert broadcast_from_rank_zero(trainer(external=True, first=False, heard=["here"]), fails) == "here"


def test_a_refusal_is_raised_in_the_first_process_and_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DECISION, raising=False)
    first = trainer(external=True)
    with pytest.raises(ValueError, match="taken"):
        broadcast_from_rank_zero(first, fails)
    assert first.strategy.said[-1] == []
    with pytest.raises(SystemExit) as left:
        broadcast_from_rank_zero(trainer(external=True, first=False), fails)
    assert left.value.code == 2


def test_a_lost_process_is_told_from_other_errors() -> None:
    assert is_lost_peer(RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:41680"))
    assert not is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
