"""Commands in processes of their own, with the imports paid once: a server that has them forks for every line.

Three kinds of servers, each started when it is first asked, one of each per test process. The ``light`` one holds what
every command imports before torch, and no torch: a line that imports it does so in its own process, where a stub on its
``PYTHONPATH`` can tell. The ``loaded`` one holds torch, lightning and transformers, for lines that train or answer. The
``stock`` one holds torch and transformers and nothing of this project, for scripts of people who do not know it.

`run_line` gives a line its input and waits for its end; `start_line` leaves both to the test.

A forked process takes the working directory, the environment, the words and the open files of its line, runs the
command as ``python -m`` does (a module named ``__main__``, run from its file) and leaves through the interpreter's own
end, so its exit code, traceback and ``atexit`` are the real ones; no line sees what an earlier one left behind. What
Python or a library reads only at its start (``PYTHONUTF8``, ``sitecustomize``, ``OMP_NUM_THREADS``) is the server's: a
line about those needs a process started for it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal

ROOT = Path(__file__).parents[1]
COMMANDS = ("train", "evaluate", "predict", "calibrate", "export", "cli", "bench", "reorder", "report", "serve")
Kind = Literal["light", "loaded", "stock"]
_servers: dict[str, _Server] = {}


def run_line(
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    given: bytes = b"",
    timeout: float = 120,
    kind: Kind = "light",
) -> subprocess.CompletedProcess[str]:
    """``python -m *words``, or ``python *words`` where the first is ``-c``, in a fork of the server of this kind: what
    ``subprocess.run(…, capture_output=True, text=True)`` gives.

    Its standard input is a file that holds ``given``.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(given)
        stdin.seek(0)
        server = _server(kind)
        pid = server.begin(words, [stdin.fileno(), out.fileno(), err.fileno()], cwd, env)
        code = server.end(pid, timeout)
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode())
    return subprocess.CompletedProcess(list(words), code, *told)


@dataclass
class Started:
    """A line under way in a process of its own; until `wait` has told its end, no other of its kind may be given."""

    server: _Server
    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def wait(self, timeout: float = 120) -> int:
        """Its exit code."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            pipe.close()
        return self.server.end(self.pid, timeout)


def start_line(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, kind: Kind = "light"
) -> Started:
    """Start what `run_line` runs, with pipes for its standard input, output and error, and do not wait for it."""
    (stdin, ours), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    server = _server(kind)
    pid = server.begin(words, [stdin, stdout, stderr], cwd, env)
    for theirs in (stdin, stdout, stderr):
        os.close(theirs)
    return Started(server, pid, os.fdopen(ours, "wb"), os.fdopen(out, "rb"), os.fdopen(err, "rb"))


def _server(kind: Kind) -> _Server:
    if kind not in _servers:
        _servers[kind] = _Server(kind)
    return _servers[kind]


class _Server:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.running = 0  # the process of a line whose end was not told yet
        self.socket, theirs = socket.socketpair()
        code = f"import sys; from tests.commands import serve; serve({kind!r}, int(sys.argv[1]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.answers = self.socket.makefile("r")
        self._answer(300)
        atexit.register(self.close)

    def begin(self, words: Sequence[str], files: Sequence[int], cwd: Path, env: Mapping[str, str] | None) -> int:
        """The process that runs the line."""
        from tests.painting import brush  # here, as servers hold no matplotlib that a line has not asked for

        line = {
            "words": list(words),
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "painting": self.kind != "loaded" or brush.painting,
        }
        if self.running:  # a test failed before it waited
            os.kill(self.running, signal.SIGKILL)
            self.end(self.running, 60)
        content = json.dumps(line).encode()
        self.socket.settimeout(None)
        socket.send_fds(self.socket, [f"{len(content):>8}".encode()], list(files))
        self.socket.sendall(content)
        self.running = self._answer(120)
        return self.running

    def end(self, pid: int, timeout: float) -> int:
        """The exit code of the line; `TimeoutError` where it takes longer, and it is killed."""
        try:
            code = self._answer(timeout)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self.close()
            raise
        self.running = 0
        return code

    def _answer(self, timeout: float) -> int:
        self.socket.settimeout(timeout)
        found = self.answers.readline()
        assert found, "the server of commands is gone"
        return int(found)

    def close(self) -> None:
        _servers.clear()
        self.socket.close()
        self.answers.close()  # at which it ends
        self.process.wait(60)


def serve(kind: str, number: int) -> None:
    """Fork for every line that comes in through this socket, until it closes."""
    if kind == "light":
        _import_commands()
    elif kind == "loaded":
        importlib.import_module("tests.preloaded")
    else:
        importlib.import_module("torch")
        for name in ("BertForSequenceClassification", "AutoTokenizer"):
            getattr(importlib.import_module("transformers"), name)
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=number)
    channel.sendall(b"0\n")
    while True:
        header, files, _, _ = socket.recv_fds(channel, 8, 3)
        if not header:
            return
        line = json.loads(_read(channel, int(header)))
        pid = os.fork()
        if not pid:
            channel.close()
            return _become(line, files)
        for file in files:
            os.close(file)
        channel.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _read(channel: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += channel.recv(size - len(found))
    return found


class _NoTorch:
    """Ends the import of whatever imports torch."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
        if name == "torch":
            raise SystemExit("torch")


def _import_commands() -> None:
    """What the commands import; they themselves are run from their files, one that imports torch by its line alone."""
    finder: Any = _NoTorch()
    sys.meta_path.insert(0, finder)
    before = set(sys.modules)
    for name in COMMANDS:
        kept = set(sys.modules)
        try:
            importlib.import_module(f"sharcs_pl.{name}")
        except SystemExit:
            for left in set(sys.modules) - kept:  # half of a package
                del sys.modules[left]
    sys.meta_path.remove(finder)
    for name in {f"sharcs_pl.{name}" for name in COMMANDS} - before:
        sys.modules.pop(name, None)
    assert "torch" not in sys.modules
    _compose_once()


def _compose_once() -> None:
    """So that parsers, type hints and the list of plugins are known to every fork."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    from sharcs_pl.config import RunConfig, conf_dir

    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        compose("train", overrides=["width.bounds=[[0.5,1],[a,b]]", "task.name='x y'", "+optim.x={b:null}"])


def _become(line: Mapping[str, Any], files: Sequence[int]) -> None:
    if not line["painting"]:
        importlib.import_module("tests.painting").brush.painting = False
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(line["cwd"])
    os.environ.clear()
    os.environ.update(line["env"])
    installed = [path for path in sys.path if path not in ("", str(ROOT))]
    given = [path for path in line["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    # The package's folder comes last, where an editable install puts it: processes that a line spawns look there.
    sys.path[:] = [line["cwd"], *given, *installed, str(ROOT)]
    module, *words = line["words"]
    sys.argv = [module, *words]
    if module == "-c":
        code, *sys.argv[1:] = words
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        return
    runpy.run_module(module, run_name="__main__", alter_sys=True)
