"""The server: LitServe's, with a desk for ``/predict``, metrics, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from litserve import LitServer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Route

from sharcs_pl.config.command_line import BAD_INPUT, FAILED
from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.server.api import END, RoutedAPI
from sharcs_pl.server.bodies import SCHEMA
from sharcs_pl.server.desk import PREDICT, Desk
from sharcs_pl.server.offer import Offer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FRONT = "LitServer-0"  # LitServe's name of the process that listens


class Server(LitServer):
    """A server of one model: a process that listens, one that holds the model, and this one, which waits for both."""

    def __init__(self, source: TrainedModel, config: ServeConfig, offer: Offer) -> None:
        self.desk, self.config = Desk(config, offer), config
        api = RoutedAPI(source, config, offer, self.desk)
        super().__init__(
            api,
            accelerator="cpu",  # LitServe's word for one process; the model chooses its device itself
            timeout=False,
            max_payload_size=config.max_body_bytes,
            model_metadata=offer.told(config),
        )
        self._monitor_workers = False  # `watch` does it
        self.ending, self.failed = False, 0
        self.app.add_api_route("/ready", self.ready)
        self.app.add_api_route("/metrics", self.metrics)
        self.app.add_exception_handler(HTTPException, _told)
        for route in self.app.routes:
            if isinstance(route, Route) and route.path == PREDICT:
                body = {"content": {"application/json": {"schema": SCHEMA}}, "required": True}
                route.openapi_extra = {"requestBody": body}  # pyright: ignore[reportAttributeAccessIssue]

    async def ready(self) -> Response:
        """Tell if requests are taken: the model is loaded and warm before this process listens."""
        draining = self.desk.draining
        return JSONResponse({"ready": not draining}, 503 if draining else 200)

    async def metrics(self) -> Response:
        """Tell the metrics in Prometheus' text format."""
        return Response(self.desk.metrics.told(), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Drain on a signal. In the end let the model's process end, then the one that waits for both."""
        async with super().lifespan(app):
            loop = asyncio.get_running_loop()
            leave = signal.getsignal(signal.SIGTERM)  # uvicorn's own way out
            assert callable(leave)
            for number in SIGNALS:
                loop.add_signal_handler(number, lambda: self.desk.drain(lambda: leave(signal.SIGTERM, None), loop))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # those since the fork come now
            where = address(self.config)
            print(f"serving {self.config.run} on {where} (stop with Ctrl-C or SIGTERM)", file=sys.stderr, flush=True)
            yield
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # it ends anyway, and with 0
        self._finish()

    def _finish(self) -> None:
        """Let the model's process end, and the one that waits for both."""
        assert self._shutdown_event is not None
        self._get_request_queue(PREDICT).put(END)
        self._shutdown_event.set()

    def verify_worker_status(self) -> None:
        """Wait until the model is ready, as LitServe does, or until its process has ended."""
        threading.Thread(target=self.watch_model, daemon=True).start()
        super().verify_worker_status()

    def _start_server(self, *args: Any, **kwargs: Any) -> dict[int, Any]:
        """Start to listen. A signal waits until this process knows its fork, and the fork how to drain."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            found = super()._start_server(*args, **kwargs)
            threading.Thread(target=self.watch_front, args=(found[0],), daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return found

    def watch_model(self) -> None:
        """End the server when the model's process ends before it was told to."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # else this thread takes those that `_start_server` blocks
        code = _code_of(self.inference_workers[0])
        if self.ending or code == 0:
            return
        self.failed = BAD_INPUT if code == BAD_INPUT else FAILED
        if self.failed == FAILED:  # else it has said why
            print(f"error: the model's process has ended with {code}", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)

    def watch_front(self, front: BaseProcess) -> None:
        """End the server when the process that listens ends in another way than by a drain."""
        code = _code_of(front)
        if code != 0:
            self.failed = self.failed or FAILED
            print(f"error: the process that listens has ended with {code}", file=sys.stderr)
            self._finish()


def address(config: ServeConfig) -> str:
    """Return where a server is reached."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{config.port}"


def serve(source: TrainedModel, config: ServeConfig, offer: Offer) -> None:
    """Serve until SIGTERM or Ctrl-C. Raise ``SystemExit`` with 2 where the model cannot be loaded as asked, and
    with 1 where a process of the server has ended by itself."""
    server, own = Server(source, config, offer), os.getpid()

    def stop(number: int, frame: Any) -> None:
        if os.getpid() != own:
            return  # a fork of this process, whose end comes from here
        server.ending = True
        front = [child.pid for child in mp.active_children() if child.name == _FRONT and child.pid]
        if not front:
            raise SystemExit(server.failed or 128 + number)
        for pid in front:
            os.kill(pid, signal.SIGTERM)

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        server.run(
            config.host, config.port, num_api_servers=1, log_level="error", generate_client_file=False, access_log=False
        )
    finally:
        for child in mp.active_children():
            child.kill()
    if server.failed:
        raise SystemExit(server.failed)


def _code_of(process: BaseProcess) -> int:
    wait([process.sentinel])
    while (code := process.exitcode) is None:  # it is not quite over, or another thread takes its code just now
        time.sleep(0.01)
    return code


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
