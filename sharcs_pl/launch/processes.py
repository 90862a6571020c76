"""The rank of this process in its run, and decisions that the first process makes for all.

A run is started by its user (Lightning then starts the other processes of the node), or all at once by torchrun or
srun. The rank is known before torch is imported, since only the first process may touch the run directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning as L

DECISION = "SHARCS_DECISION"  # from the first process to those that Lightning starts from it
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out", "timed out", "NCCL")
_RANKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


def is_rank_zero(env: Mapping[str, str] = os.environ) -> bool:
    """Return True in the first process of a run, by the variables of torchrun (`RANK`), srun or Lightning."""
    if "RANK" in env:
        return int(env["RANK"]) == 0
    return all(int(env.get(name, 0)) == 0 for name in _RANKS)


class Refused(SystemExit):
    """The exit of a process whose run was refused by the first process, which has said why."""


def is_single_process(env: Mapping[str, str] = os.environ) -> bool:
    """Return True unless a launcher has started several processes at once; mistakes can then be told before torch
    loads."""
    return not {"RANK", "LOCAL_RANK"} & set(env) and int(env.get("SLURM_NTASKS", 1)) == 1


def is_lost_peer(error: RuntimeError) -> bool:
    """Return True if a collective failed because another process of the run is gone, or did not come in time."""
    return any(sign in str(error) for sign in _LOST)


def broadcast_from_rank_zero(trainer: L.Trainer, decide: Callable[[], Any]) -> Any:
    """Call `decide` in the first process and return its result, of plain types, in every process.

    An error is raised in the first process alone; the others then leave with exit code 2, saying nothing.
    """
    if trainer.world_size == 1:
        return decide()
    strategy: Any = trainer.strategy
    if not strategy.cluster_environment.creates_processes_externally:
        found = decide()  # the other processes do not exist yet and inherit the answer
        os.environ[DECISION] = json.dumps(found)
        return found
    if not is_rank_zero() and DECISION in os.environ:
        return json.loads(os.environ[DECISION])
    strategy.setup_environment()  # as fit would; a second call changes nothing
    return _broadcast(strategy, decide)


def _broadcast(strategy: Any, decide: Callable[[], Any]) -> Any:
    answer: list[Any] = []
    try:
        if strategy.is_global_zero:
            answer.append(decide())
    finally:
        answer = strategy.broadcast(answer)
    if not answer:
        raise Refused(2)
    return answer[0]
