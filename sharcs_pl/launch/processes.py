"""Which process of a run this is, and what the first one decides for all.

A run is started by its user (Lightning then starts the other processes of the node), or all at once by torchrun or
srun. Known before torch is imported: only the first process may touch the run directory.
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


def is_main(env: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the first process of its run, by what torchrun (`RANK`), srun or Lightning set."""
    if "RANK" in env:
        return int(env["RANK"]) == 0
    return all(int(env.get(name, 0)) == 0 for name in _RANKS)


class Refused(SystemExit):
    """The first process refused to run, and has said why."""


def is_alone(env: Mapping[str, str] = os.environ) -> bool:
    """Whether no launcher has started several processes at once: a mistake can then be told before torch is here."""
    return not {"RANK", "LOCAL_RANK"} & set(env) and int(env.get("SLURM_NTASKS", 1)) == 1


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another process of the run is gone, or did not come in time."""
    return any(sign in str(error) for sign in _LOST)


def decided_by_main(trainer: L.Trainer, decide: Callable[[], Any]) -> Any:
    """What `decide` returns in the first process, in every process; plain types only.

    When it raises there, the error is raised there and the other processes leave with exit code 2, saying nothing.
    """
    if trainer.world_size == 1:
        return decide()
    strategy: Any = trainer.strategy
    if not strategy.cluster_environment.creates_processes_externally:
        found = decide()  # the others do not exist yet: they are born with the answer
        os.environ[DECISION] = json.dumps(found)
        return found
    if not is_main() and DECISION in os.environ:
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
