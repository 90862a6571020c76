"""A lock file that names its holder: one process at a time, on this machine or another that shares the folder.

It is made with ``O_CREAT | O_EXCL``, which is atomic on local disks and on NFS. ``flock``, and so the package
``filelock``, would not do: many cluster file systems lack it or keep it to one node, forked workers inherit it, and it
tells neither who holds it nor since when. The price is a file that stays after ``kill -9``, so the process is named
exactly enough to know that it is gone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sharcs_pl.core.files import atomic_file
from sharcs_pl.launch.slurm import CLUSTER, SlurmJob, is_over

_READS, _PAUSE = 20, 0.05  # between the making of a lock file and its one line lies an instant
_DEAD_STATES = "ZX"  # of /proc: a zombie trains no more


@dataclass(frozen=True)
class Holder:
    """A process, named so that no other is taken for it: a pid comes again, a pid with its start does not.

    `machine` tells this start of this machine and, within it, this container's processes from others. `job` is the
    SLURM job that the process belongs to, and `restarts` how often that was requeued. `token` is this lock's own.
    """

    host: str
    pid: int
    started: str
    machine: dict[str, str]
    since: str
    token: str
    job: str | None = None
    restarts: int = 0
    cluster: str | None = None

    @classmethod
    def here(cls, job: SlurmJob | None = None) -> Holder:
        """Return the holder that names this process."""
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        own, token = _start_of(os.getpid()) or "", uuid.uuid4().hex
        found = cls(socket.gethostname(), os.getpid(), own, _machine(), now, token)
        if job is None:
            return found
        return cls(**asdict(found) | {"job": job.id, "restarts": job.restarts, "cluster": os.environ.get(CLUSTER)})

    def is_gone(self, asking: Holder) -> bool | None:
        """Return True if the process is over; None where that cannot be known from where `asking` runs."""
        same = _same_machine(self, asking)
        if same is not None:
            return not (same and _lives(self.pid, self.started))
        if self.job is None:
            return None
        if self.job == asking.job and self.cluster == asking.cluster:
            return asking.restarts > self.restarts or None
        return is_over(SlurmJob(self.job, self.restarts), self.cluster)

    def __str__(self) -> str:
        job = f" (SLURM job {self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{job} since {self.since}"


class InUse(ValueError):
    """The lock at `path` is `held` by another process, which may have ended if one is `unsure`."""

    def __init__(self, path: Path, held: Holder, unsure: bool) -> None:
        super().__init__(path, held, unsure)
        self.path = path
        self.held = held
        self.unsure = unsure

    def told(self, what: object, does: str, otherwise: str) -> str:
        """Return the message that `what` is in use by a process that `does` something."""
        hint = f"if it has ended, remove {self.path}" if self.unsure else otherwise
        return f"{what} is in use: {self.held} {does}; {hint}"

    def __str__(self) -> str:
        otherwise = "wait for its end, or give another hydra.run.dir"
        return self.told(self.path.parent.parent, "trains there", otherwise)


class RunLock:
    """The lock at ``path``, taken with ``take`` and given back when the ``with`` block ends, however it does."""

    def __init__(self, path: Path, job: SlurmJob | None = None) -> None:
        self.path = path
        self.job = job
        self._mine: Holder | None = None
        self._made: list[Path] = []

    def take(self) -> None:
        """Take the lock. Of several that try at once one succeeds. Raise ``ValueError`` while another holds it."""
        assert self._mine is None
        self._made = [folder for folder in self.path.parents if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mine = Holder.here(self.job)
        try:
            _acquire(self.path, mine)
            self._mine = mine
        finally:
            if self._mine is None:
                self._remove_made()

    def release(self) -> None:
        """Give the lock back; do nothing where it was not taken."""
        if self._mine is None:
            return
        if _read(self.path) == self._mine:
            self.path.unlink(missing_ok=True)
        for stale in self.path.parent.glob(f"{self.path.name}.*"):
            stale.unlink(missing_ok=True)
        self._mine = None
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:  # the innermost first
            with suppress(OSError):
                folder.rmdir()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def check_free(path: Path, job: SlurmJob | None = None) -> None:
    """Raise ``ValueError`` naming the process that holds the lock at ``path``, unless it is this one or has ended."""
    held = _read(path)
    if held is None:
        return
    here = Holder.here(job)
    mine = (held.machine, held.pid, held.started) == (here.machine, here.pid, here.started)
    if not mine:
        _check_gone(path, held, here)


def _check_gone(path: Path, held: Holder, asking: Holder) -> None:
    gone = held.is_gone(asking)
    if not gone:
        raise InUse(path, held, gone is None)


def _acquire(path: Path, mine: Holder) -> None:
    while not _create(path, mine):
        held = _read(path)
        if held is None:
            continue  # given back in between
        _check_gone(path, held, mine)
        # Several may have found it stale. A lock named after it decides who replaces it; whoever comes later finds
        # another holder's lock at the path and looks again.
        turn = path.with_name(f"{path.name}.{held.token}")
        _acquire(turn, mine)
        try:
            if _read(path) == held:
                with atomic_file(path, f".{mine.token}.part") as part:
                    part.write_bytes(_line(mine))
                return
        finally:
            turn.unlink(missing_ok=True)


def _create(path: Path, mine: Holder) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(handle, _line(mine))
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(handle)
    return True


def _line(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder)) + "\n").encode()


def _read(path: Path) -> Holder | None:
    """Return the holder of the lock; None where there is no lock."""
    for _ in range(_READS):
        try:
            found = _parse(path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None
        if found is not None:
            return found
        time.sleep(_PAUSE)
    raise ValueError(f"{path} does not say which process holds it; if none trains there, remove it")


def _parse(text: str) -> Holder | None:
    try:
        values: Any = json.loads(text)
        found = Holder(**values)
    except (ValueError, TypeError):
        return None
    good = isinstance(found.pid, int) and isinstance(found.machine, dict) and isinstance(found.token, str)
    return found if good and re.fullmatch("[0-9a-f]{32}", found.token) else None


def _same_machine(held: Holder, asking: Holder) -> bool | None:
    """Return True if the holder's process can be looked up here, and False if it ran on this machine before a restart.
    Return None for another machine or container, whose process ids mean nothing here."""
    one, other = held.machine, asking.machine
    if not one.get("boot"):
        return True if held.host == asking.host and one == other else None
    if one["boot"] == other.get("boot"):
        return True if one.get("pids") == other.get("pids") else None
    rebooted = held.host == asking.host and bool(one.get("id")) and one["id"] == other.get("id")
    return False if rebooted else None


def _machine() -> dict[str, str]:
    facts = {"boot": Path("/proc/sys/kernel/random/boot_id"), "id": Path("/etc/machine-id")}
    found = {name: path.read_text().strip() if path.is_file() else "" for name, path in facts.items()}
    with suppress(OSError):
        found["pids"] = os.readlink("/proc/self/ns/pid")
    return found


def _lives(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    found = _start_of(pid)
    return found in (None, started)  # None: there, and hidden from this user


def _start_of(pid: int) -> str | None:
    """Return the start time of the process, in the system's own words; "" for one that has ended, None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _start_by_ps(pid)
    return "" if fields[0] in _DEAD_STATES else fields[19]


def _start_by_ps(pid: int) -> str | None:
    """Return the time at which the process started, on a system without /proc such as macOS."""
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
