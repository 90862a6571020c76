"""A process that predicts the same files again and again in children, each of which is killed at a moment of its own.

Called as ``python -m tests.predict.kills MODEL INPUT FOLDER SEED KILLS``. Half of the children are killed by their
parent after a random time, half kill themselves at a random one of the calls that write a row, put a file in its place
or remove one, the middle of a row included. One line per start, which names every output that is not that of the folder
``whole``: the outputs of the first child, which is left alone.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.inference import journal
from sharcs_pl.pipeline import predict_file
from sharcs_pl.predict import run
from tests.killing import Fuse, wait_or_kill

CALLS = ("open", "replace", "unlink")  # of os


def die_at(call: int) -> Fuse:
    """Have this process killed at the given one of its calls; return what counts them."""
    fuse = Fuse(call)
    for name in CALLS:
        setattr(os, name, fuse.ticking(getattr(os, name)))
    line = journal._line

    def torn(value: Any) -> bytes:
        if "version" in value:  # the fingerprint
            fuse.tick()
        else:
            fuse.left -= 1
        return line(value) if fuse.left else line(value)[:-9]  # and it dies once that is on the disk

    add = journal.Journal.add

    def added(self: journal.Journal, record: Any) -> None:
        add(self, record)
        if fuse.left <= 0:
            self.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    journal._line = torn
    journal.Journal.add = added
    return fuse


def child(config: PredictConfig, call: int | None, told: int) -> None:
    """Predict, or go on, and leave; tell how many calls it took."""
    code = 1
    try:
        os.dup2(os.open(f"{config.output}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        torch.set_num_threads(1)
        predict_file.SEGMENT = 2
        fuse = die_at(10**9 if call is None else call)
        run(config)
        os.write(told, f"{10**9 - fuse.left}".encode())
        code = 0
    finally:
        os._exit(code)


def start(config: PredictConfig, seconds: float | None, call: int | None) -> tuple[int, int]:
    """Start a child, kill it after a time unless it ends before; its exit status, and the number of its calls."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(config, call, writer)
    os.close(writer)
    status = wait_or_kill(pid, 600 if seconds is None else seconds)
    with os.fdopen(reader, "rb") as pipe:
        calls = pipe.read()
    return status, int(calls or 0)


def outputs(folder: Path) -> dict[str, bytes]:
    """The outputs of a folder, whole by their names."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".part", ".new"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if ".sharcs" not in path.parts}


def main(model: str, source: str, folder: Path, seed: int, kills: int) -> None:
    draw = random.Random(seed)

    def config(name: str) -> PredictConfig:
        return PredictConfig(run=model, input=source, output=str(folder / name), batch_size=4, on_error="skip")

    begun = time.monotonic()
    status, calls = start(config("whole"), None, None)
    seconds = time.monotonic() - begun
    if status != 0:
        raise SystemExit((folder / "whole.log").read_text())
    whole = outputs(folder / "whole")
    number = done = 0
    while done < kills:
        call = draw.randint(1, calls) if draw.random() < 0.5 else None
        status, _ = start(config(f"run{number}"), draw.uniform(0, seconds) if call is None else None, call)
        show(f"run{number}", status, folder, whole)
        done += status == -signal.SIGKILL
        number += status == 0
    show(f"run{number}", start(config(f"run{number}"), None, None)[0], folder, whole)
    left = [path.name for path in (folder / f"run{number}").rglob("*") if path.suffix in (".part", ".new", ".lock")]
    print(f"missing={sorted(set(whole) - set(outputs(folder / f'run{number}')))} left={left}")


def show(name: str, status: int, folder: Path, whole: dict[str, bytes]) -> None:
    """Tell of a start; only a finished one must have every output."""
    found = outputs(folder / name)
    wrong = sorted(key for key in found if found[key] != whole.get(key))
    print(f"{name} status={status} outputs={len(found)} wrong={wrong}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0], given[1], Path(given[2]), int(given[3]), int(given[4]))
