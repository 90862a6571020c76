"""``sharcs serve`` as a process, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("litserve")
pytest.importorskip("prometheus_client")

from sharcs_pl.inference.predictor import RoutedPredictor
from tests.commands import run_line
from tests.predict.conftest import saved, texts_of

DEADLINE = 4.0
LIMITS = ("max_queue=40", "max_texts=32", "max_body_bytes=20000", f"deadline_ms={DEADLINE * 1000:g}", "batch_size=8")
OVERLOAD = ("overload=narrow", "overload_above=20")
START = 240  # seconds, on a machine that does much else


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int

    def ask(self, body: Any, path: str = "/predict", method: str = "POST") -> tuple[int, Any]:
        """The status and the answer, as JSON where it is some."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, None if method == "GET" else raw, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return response.status, json.loads(text) if text[:1] in "{[" else text

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask(None, path, "GET")

    def metric(self, line: str) -> float:
        """The value of a sample of ``/metrics``."""
        rows = [row for row in self.get("/metrics")[1].splitlines() if row.startswith(f"{line} ")]
        return float(rows[0].split()[-1]) if rows else 0.0

    @property
    def children(self) -> list[str]:
        own = self.process.pid
        return Path(f"/proc/{own}/task/{own}/children").read_text().split()

    @property
    def model_process(self) -> int:
        """The process that holds the model."""
        (found,) = [pid for pid in self.children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return int(found)

    @property
    def listening_process(self) -> int:
        """The process that listens, which starts last."""
        return int(self.children[-1])

    @contextmanager
    def stopped_model(self) -> Iterator[None]:
        """A model that answers nothing inside the block."""
        os.kill(self.model_process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.model_process, signal.SIGCONT)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(model: Path, log: Path, *keys: str) -> Iterator[Server]:
    port = free_port()
    words = [sys.executable, "-m", "sharcs_pl.serve", f"run={model}", f"port={port}", *keys]
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, text=True)
    server = Server(process, port)
    try:
        until(lambda: process.poll() is not None or answers(server), START)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def answers(server: Server) -> bool:
    try:
        return server.get("/ready") == (200, {"ready": True})
    except OSError:
        return False


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of the module; the last of them ends it."""
    with serving(model, tmp_path_factory.mktemp("log") / "server.log", *LIMITS, *OVERLOAD) as found:
        yield found


BAD: list[tuple[Any, int, str]] = [
    (b"{", 400, "the body is not JSON"),
    ([1], 400, "the body must be a JSON object"),
    ({"text": ""}, 422, "text is empty"),
    ({"texts": ["a", 3]}, 422, "texts[1] holds 3"),
    ({"texts": ["a"] * 33}, 422, "texts has 33 texts"),
    ({"text": "a", "colour": 1}, 422, "no key 'colour'"),
    ({"text": "a", "point": "nope"}, 422, "point='nope'"),
    ({"text": "a" * 30_000}, 413, "max_body_bytes=20,000"),
]


def test_every_answer_is_the_predictor_s_own_among_bad_requests(server: Server, model: Path) -> None:
    texts: list[Any] = [*texts_of(60, 1), *zip(texts_of(10, 2), texts_of(10, 3), strict=True)]
    points = [None, "top", "narrow"]
    good = [({"text": text, "point": points[number % 3]}, None) for number, text in enumerate(texts)]
    good.append(({"texts": texts[:9], "explain": True}, None))
    asked: list[Any] = [*good, *((body, (status, piece)) for body, status, piece in BAD * 2)]
    random.Random(0).shuffle(asked)
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda each: server.ask(each[0]), asked))
    alone = {point: RoutedPredictor.from_pretrained(model, point=point) for point in points}
    for (body, wrong), (status, answer) in zip(asked, found, strict=True):
        if wrong is not None:
            assert (status, wrong[1] in answer["error"]) == (wrong[0], True), answer
            assert "\n" not in answer["error"]
            continue
        assert status == 200, answer
        several = body.get("texts", [body.get("text")])
        assert answer["point"] == (body.get("point") or "trained")
        for number, (text, record) in enumerate(zip(several, answer["answers"], strict=True), 1):
            (wanted,) = alone[body.get("point")].predict([text])
            assert (record["row"], record["label"], record["rung"]) == (number, wanted.label, wanted.rung)
            assert (record["width"], record["macs"]) == (wanted.width, wanted.macs)
            assert list(record["probabilities"].values()) == pytest.approx(wanted.probabilities, abs=1e-5)
            assert ("router_scores" in record) == ("texts" in body)


def test_what_the_other_routes_tell(server: Server) -> None:
    assert server.get("/health") == (200, "ok")
    assert server.get("/ready") == (200, {"ready": True})
    told = server.get("/info")[1]["model"]
    assert (told["labels"], told["points"]) == (["no", "maybe", "yes"], ["trained", "narrow", "top"])
    assert told["limits"]["max_queue"] == 40
    assert "swagger" in server.get("/docs")[1]
    schema = server.get("/openapi.json")[1]["paths"]["/predict"]["post"]["requestBody"]
    assert "texts" in schema["content"]["application/json"]["schema"]["properties"]
    assert server.get("/predict") == (405, {"error": "Method Not Allowed"})
    assert server.get("/nowhere") == (404, {"error": "Not Found"})
    before = server.metric('sharcs_texts_total{point="top",width="1"}')
    assert server.ask({"texts": ["good", "bad"], "point": "top"})[0] == 200
    assert server.metric('sharcs_texts_total{point="top",width="1"}') == before + 2
    assert server.metric('sharcs_requests_total{status="200"}') > 0


def test_a_model_that_answers_too_late_a_full_queue_and_an_overload(server: Server) -> None:
    with ThreadPoolExecutor(8) as clients:
        with server.stopped_model():
            held = [clients.submit(server.ask, {"texts": ["good film"] * size}) for size in (16, 16)]
            until(lambda: server.metric("sharcs_queue_texts") == 32)
            assert server.metric("sharcs_overload") == 1
            assert server.metric('sharcs_point{point="narrow"}') == 1
            status, answer = server.ask({"texts": ["good film"] * 9})
            assert (status, "the queue holds 32 texts" in answer["error"]) == (429, True)
            cheap = clients.submit(server.ask, {"text": "good film"})
            given = clients.submit(server.ask, {"text": "good film", "point": "top"})
            late = [each.result() for each in (*held, cheap, given)]
        assert late == [(504, {"error": f"no answer within {DEADLINE * 1000:g} ms"})] * 4
        assert server.metric("sharcs_rejected_total") == 9
        assert server.metric("sharcs_queue_texts") == 0
        with server.stopped_model():
            held = [clients.submit(server.ask, {"texts": ["good film"] * 25})]
            until(lambda: server.metric("sharcs_queue_texts") == 25)
            cheap = clients.submit(server.ask, {"text": "good film"})
            given = clients.submit(server.ask, {"text": "good film", "point": "top"})
            until(lambda: server.metric("sharcs_queue_texts") == 27)
        found = [each.result() for each in (*held, cheap, given)]
    assert [(status, answer["point"]) for status, answer in found] == [(200, "trained"), (200, "narrow"), (200, "top")]
    assert server.ask({"text": "good film"})[1]["point"] == "trained"
    assert server.metric("sharcs_overload") == 0


def test_sigterm_answers_what_is_under_way_and_refuses_what_is_new(server: Server) -> None:
    with ThreadPoolExecutor(8) as clients, socket.create_connection(("127.0.0.1", server.port)) as stalled:
        stalled.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
        with server.stopped_model():
            held = [clients.submit(server.ask, {"text": text}) for text in texts_of(6)]
            until(lambda: server.metric("sharcs_queue_texts") == 6)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.get("/ready") == (503, {"ready": False}))
            assert server.ask({"text": "good"}) == (503, {"error": "the server is stopping"})
        assert [each.result()[0] for each in held] == [200] * 6
        assert stalled.recv(99).startswith(b"HTTP/1.1 408 ")
    assert server.process.wait(60) == 0


@pytest.mark.parametrize("name", ["model", "listening"])
def test_the_end_of_a_process_ends_the_server(model: Path, tmp_path: Path, name: str) -> None:
    with serving(model, tmp_path / "log", "deadline_ms=500") as server:
        os.kill(getattr(server, f"{name}_process"), signal.SIGKILL)
        assert server.process.wait(60) == 1
    told = (tmp_path / "log").read_text()
    what = {"model": "the model's process", "listening": "the process that listens"}[name]
    assert told.count("error:") == told.count(f"error: {what} has ended with -9\n") == 1
    assert "Traceback" not in told


def test_a_signal_before_the_server_listens_is_not_lost(model: Path) -> None:
    slow = (
        "import time, uvicorn; run = uvicorn.Server.run;"
        "uvicorn.Server.run = lambda *given: (print('forked', flush=True), time.sleep(2), run(*given));"
        "from sharcs_pl.serve import main; main()"
    )
    words = [sys.executable, "-c", slow, f"run={model}", f"port={free_port()}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "forked\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_model_that_cannot_be_loaded_is_one_line(model: Path) -> None:
    done = run_line(["sharcs_pl.serve", f"run={model}", f"port={free_port()}", "device=cuda"], cwd=model, timeout=START)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: device=cuda: torch sees no CUDA device here; use device=cpu or auto\n"


@pytest.mark.parametrize(
    ("keys", "piece"),
    [
        (["point=nope"], "point=nope: this model has no such operating point; it has trained, narrow, top"),
        (["overload=nope"], "overload=nope: this model has no such operating point"),
        (["max_length=99"], "max_length=99: this encoder reads at most 32 tokens"),
    ],
)
def test_a_key_that_does_not_fit_the_model_is_one_line(model: Path, keys: list[str], piece: str) -> None:
    done = run_line(["sharcs_pl.serve", f"run={model}", f"port={free_port()}", *keys], cwd=model)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: {piece}")


def test_a_taken_port_is_one_line(model: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_line(["sharcs_pl.serve", f"run={model}", f"port={port}"], cwd=model)
    assert done.returncode == 2
    assert done.stderr == f"error: port={port} cannot be used on host=127.0.0.1: Address already in use\n"
