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
from pathlib import Path
from typing import Any

import torch

from sharcs_pl.models.folder import check_zip
from tests.killing import Fuse, wait_or_kill
from tests.training.survival import run

MOST_SECONDS = 3.0
MOST_CALLS = 60


def die_at(call: int) -> None:
    """Have this process killed at the given one of its calls that write, force to the disk or rename."""
    fuse = Fuse(call)
    os.fsync, os.replace = fuse.ticking(os.fsync), fuse.ticking(os.replace)
    save = torch.save

    def torn(content: Any, file: Any) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        file.flush()
        fuse.tick()
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
    return wait_or_kill(pid, 120 if seconds is None else seconds)


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
