"""Several processes of one run, started as torchrun would, with the imports paid once for all of them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.painting import brush

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])

TIMEOUT = 300  # seconds for a whole group of processes


def run_ranks(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """``work(rank, *args)`` in ``world`` processes; what each returns, in the order of ranks.

    An error in one of them is raised here with its traceback.
    """
    port = str(free_port())
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(world)]
    ranks = [
        _CONTEXT.Process(target=_rank, args=(rank, world, port, send, brush.painting, work, args))
        for rank, (_, send) in enumerate(pipes)
    ]
    for process, (_, send) in zip(ranks, pipes, strict=True):
        process.start()
        send.close()
    try:
        answers = [receive.recv() if receive.poll(TIMEOUT) else ("error", "no answer") for receive, _ in pipes]
    finally:
        for process in ranks:
            process.join(10)
            process.kill()
    errors = [text for kind, text in answers if kind == "error"]
    if errors:
        raise AssertionError("\n".join(errors))
    return [value for _, value in answers]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _rank(
    rank: int,
    world: int,
    port: str,
    answer: Connection,
    painting: bool,
    work: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    brush.painting = painting
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    import torch

    torch.set_num_threads(1)
    try:
        answer.send(("value", work(rank, *args)))
    except BaseException:  # noqa: BLE001  (sent to the test, which raises it)
        answer.send(("error", f"rank {rank}: {traceback.format_exc()}"))
