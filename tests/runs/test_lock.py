"""A lock is one process's at a time, and one that its process has left behind is seen to be stale."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.launch.slurm import SlurmJob
from sharcs_pl.runs.lock import Holder, InUse, RunLock, check_free

FORK = multiprocessing.get_context("fork")


def place(tmp_path: Path) -> Path:
    return tmp_path / "run" / ".hydra" / "run.lock"


def hold(path: Path, **changes: Any) -> Holder:
    """A lock as another process would have left it."""
    held = replace(Holder.here(), **{"token": "0" * 32, **changes})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(held)))
    return held


@pytest.fixture
def other() -> Any:
    """A process of somebody else, alive during the test."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_it_is_given_back_with_all_that_was_made_for_it(tmp_path: Path) -> None:
    path = place(tmp_path)
    with RunLock(path) as lock:
        assert not path.exists()
        lock.take()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        check_free(path)  # its own
        with pytest.raises(ValueError, match=rf"is in use: process {os.getpid()} on "), RunLock(path) as second:
            second.take()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), RunLock(path) as lock:
        _ = [lock.take(), {}["an error"]]
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beside_it_stays(tmp_path: Path) -> None:
    path = place(tmp_path)
    with RunLock(path) as lock:
        lock.take()
        (path.parent / "run.json").write_text("{}")
    assert [str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*.*")] == [
        "run/.hydra",
        "run/.hydra/run.json",
    ]


def test_a_living_process_is_named(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    path = place(tmp_path)
    held = hold(path, pid=other.pid, started=start_of(other.pid))
    for ask in (lambda: check_free(path), RunLock(path).take):
        with pytest.raises(ValueError, match=rf"{tmp_path}/run is in use: process {other.pid} on {held.host} since 20"):
            ask()
    assert json.loads(path.read_text()) == asdict(held)
    with pytest.raises(InUse) as caught:
        RunLock(path).take()
    assert caught.value.told("a.csv", "answers it", "wait") == f"a.csv is in use: {held} answers it; wait"


@pytest.mark.parametrize("how", ["ended", "pid of another", "zombie", "restarted machine"])
def test_a_stale_one_is_taken_over(tmp_path: Path, how: str, other: subprocess.Popen[bytes]) -> None:
    path = place(tmp_path)
    if how == "ended":
        done = subprocess.Popen(["true"])
        done.wait()
        hold(path, pid=done.pid)
    elif how == "pid of another":
        hold(path, pid=other.pid, started="1")
    elif how == "zombie":
        started = start_of(other.pid)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        hold(path, pid=other.pid, started=started)
    else:
        hold(path, pid=other.pid, started=start_of(other.pid), machine={"boot": "before", "id": "m", "pids": "p"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sharcs_pl.runs.lock._machine", lambda: {"boot": "now", "id": "m", "pids": "p"})
            check_free(path)
            RunLock(path).take()
            return
    check_free(path)
    with RunLock(path) as lock:
        lock.take()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        assert [found.name for found in path.parent.iterdir()] == ["run.lock"]


@pytest.mark.parametrize(
    "changes",
    [{"host": "node7", "machine": {"boot": "x", "id": "y"}}, {"machine": {**Holder.here().machine, "pids": "z"}}],
)
def test_of_another_machine_or_container_the_file_to_remove_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = place(tmp_path)
    held = hold(path, pid=1, **changes)
    with pytest.raises(ValueError, match=rf"process 1 on {held.host} since .*; if it has ended, remove {path}$"):
        RunLock(path).take()


AWAY = {"host": "node7", "machine": {"boot": "x", "id": "y"}, "job": "5_3", "restarts": 1, "cluster": "big"}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A scontrol that answers for job 5_3 what it is told to; no other is asked."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_CLUSTER_NAME", raising=False)

    def answer(line: str) -> None:
        config = 'case "$*" in "show config") echo "ClusterName             = big"; exit 0;; esac\n'
        tool.write_text(f"#!/bin/sh\n{config}[ \"$*\" = '-o show job 5_3' ] || exit 3\n{line}\n")
        tool.chmod(0o755)

    return answer


@pytest.mark.parametrize(
    ("line", "free"),
    [
        ("echo 'JobId=5 JobState=RUNNING Reason=None Requeue=1 Restarts=1'", False),
        ("echo 'JobId=5 JobState=RUNNING Reason=None Requeue=1 Restarts=2'", True),
        ("echo 'JobId=5 JobState=COMPLETING Restarts=1'", False),
        ("echo 'JobId=5 JobState=NODE_FAIL Restarts=1'", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", False),
        ("echo nothing that is known", False),
    ],
)
def test_slurm_knows_whether_a_job_elsewhere_is_over(
    tmp_path: Path, scontrol: Callable[[str], None], line: str, free: bool
) -> None:
    path = place(tmp_path)
    hold(path, **AWAY)
    scontrol(line)
    if not free:
        with pytest.raises(ValueError, match=r"on node7 \(SLURM job 5_3\)"):
            RunLock(path).take()
        return
    RunLock(path).take()
    hold(path, **AWAY | {"cluster": "another"})
    with pytest.raises(ValueError, match=r"on node7 \(SLURM job 5_3\)"):
        RunLock(path).take()


def test_a_requeued_job_takes_over_from_its_own_earlier_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    monkeypatch.setenv("PATH", "")
    path = place(tmp_path)
    hold(path, **AWAY)
    for job in (None, SlurmJob("5_3", 1), SlurmJob("6", 9)):  # another task of the same start may run elsewhere
        with pytest.raises(ValueError, match="is in use"):
            RunLock(path, job).take()
    with RunLock(path, SlurmJob("5_3", 2)) as lock:
        lock.take()
        assert json.loads(path.read_text())["restarts"] == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_one_that_names_nobody_is_to_be_removed(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharcs_pl.runs.lock._PAUSE", 0)
    path = place(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path} does not say which process holds it; if none trains there, remove"):
        RunLock(path).take()


def _try(path: Path, start: Any, answers: Any, end: Any) -> None:
    start.wait()
    try:
        RunLock(path).take()
        answers.put(True)
    except ValueError:
        answers.put(False)
    end.wait()


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("kind", [threading.Thread, FORK.Process])
def test_of_many_that_start_at_once_one_wins(tmp_path: Path, kind: Any, stale: bool) -> None:
    number = 8
    for attempt in range(5):
        path = place(tmp_path / str(attempt))
        if stale:
            hold(path, pid=os.getpid(), started="1")
        start, end, answers = FORK.Barrier(number), FORK.Event(), FORK.Queue()
        workers = [kind(target=_try, args=(path, start, answers, end), daemon=True) for _ in range(number)]
        for worker in workers:
            worker.start()
        try:
            found = [answers.get(timeout=120) for _ in workers]
        finally:
            end.set()
        for worker in workers:
            worker.join()
        assert sum(found) == 1
        assert [each.name for each in path.parent.iterdir()] == ["run.lock"]


def test_one_who_was_killed_while_he_took_over_is_in_nobodys_way(tmp_path: Path) -> None:
    path = place(tmp_path)
    hold(path, pid=os.getpid(), started="1")
    hold(path.with_name(f"run.lock.{'0' * 32}"), pid=os.getpid(), started="2", token="1" * 32)
    with RunLock(path) as lock:
        lock.take()
        assert [found.name for found in path.parent.iterdir()] == ["run.lock"]


def test_a_killed_process_leaves_one_that_is_stale(tmp_path: Path) -> None:
    path = place(tmp_path)
    line = f"from sharcs_pl.runs.lock import RunLock; from pathlib import Path\nRunLock(Path({str(path)!r})).take()\n"
    code = line + "import time; print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {process.pid} "):
            RunLock(path).take()
        process.send_signal(signal.SIGKILL)
    RunLock(path).take()
