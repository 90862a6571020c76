"""A process that runs the same training again and again in children, each of which is killed at a moment of its own.

Called as ``python -m tests.training.kills FOLDER SEED KILLS``. Children are forked when everything is imported, so that
a start takes little time. Half of them are killed by their parent after a random time, half kill themselves at a random
one of the calls that put files in their places, the middle of writing a checkpoint included. One line per start. One
more child, whose folder is named ``whole``, is left alone: the same bits need the same number of threads.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sharcs_pl.models.folder import check_zip
from tests.training.survival import run

MOST_SECONDS = 3.0
MOST_CALLS = 60


def die_at(call: int) -> None:
    """Have this process killed at the given one of its calls that write, force to the disk or rename."""
    left = [call]

    def tick() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            tick()
            return function(*args, **kwargs)

        return wrapped

    os.fsync, os.replace = ticking(os.fsync), ticking(os.replace)
    save = torch.save

    def torn(content: Any, file: Any) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        file.flush()
        tick()
        file.seek(0)
        file.write(buffer.getvalue())

    torch.save = torn


def child(folder: Path, call: int | None) -> None:
    """Train, or go on, and leave."""
    code = 1
    try:
        os.dup2(os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        if call is not None:
            die_at(call)
        run(folder, "ckpt_path=last")
        code = 0
    finally:
        os._exit(code)


def start(folder: Path, seconds: float | None, call: int | None) -> int:
    """Start a child, kill it after a time unless it ends before; its exit status, -9 when it was killed."""
    pid = os.fork()
    if pid == 0:
        child(folder, call)
    deadline = time.monotonic() + (120 if seconds is None else seconds)
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            found = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def damaged(folder: Path) -> list[str]:
    """The checkpoints that are not whole."""
    found = []
    for path in (folder / "checkpoints").glob("*.ckpt"):
        try:
            check_zip(path, "")
        except ValueError:
            found.append(path.name)
    return found


def main(base: Path, seed: int, kills: int) -> None:
    draw = random.Random(seed)
    torch.set_num_threads(1)
    if start(base / "whole", None, None) != 0:
        raise SystemExit((base / "whole.log").read_text())
    number, done = 0, 0
    while done < kills:
        folder = base / f"run{number}"
        call = draw.randint(1, MOST_CALLS) if draw.random() < 0.5 else None
        status = start(folder, draw.uniform(0, MOST_SECONDS) if call is None else None, call)
        print(f"run{number} status={status} call={call} damaged={damaged(folder)}", flush=True)
        done += status == -signal.SIGKILL
        number += status == 0
    print(f"run{number} status={start(base / f'run{number}', None, None)} call=None damaged=[]")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
