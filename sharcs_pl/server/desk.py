"""The desk of ``/predict``: requests are checked, counted, refused, and wait for their answers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any, cast

from fastapi import Request, Response
from litserve.specs.base import LitSpec
from litserve.utils import ResponseBufferItem
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.core.finite import without_nan
from sharcs_pl.core.text import one_line
from sharcs_pl.server.api import Job
from sharcs_pl.server.bodies import Refused, read_body
from sharcs_pl.server.metrics import Metrics
from sharcs_pl.server.offer import Offer

PREDICT = "/predict"
LINGER = 0.2  # seconds in which the last answers are written


class Desk(LitSpec):
    """What takes the requests of ``/predict``, hands them to the model's process and waits for the answers.

    `waiting` counts the texts that are accepted and not answered yet, `busy` the requests under way.
    """

    def __init__(self, config: ServeConfig, offer: Offer) -> None:
        super().__init__()
        self.api_path = PREDICT
        self.config, self.offer = config, offer
        self.metrics = Metrics(offer.widths, [offer.point, config.overload or offer.point])
        self.waiting = self.busy = 0
        self.draining = False
        self.add_endpoint(PREDICT, self.predict, ["POST"])

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: the model's process has no use for a desk."""
        return {"_endpoints": [], "api_path": self.api_path, "_server": None}

    async def predict(self, request: Request) -> Response:
        """Answer one text, a pair, or a list of them: the fields of `sharcs predict`."""
        started = time.monotonic()
        self.busy += 1
        try:
            status, found = await self._answer(await self._body(request, started), started)
        except Refused as refused:
            status, found = refused.status, {"error": str(refused)}
        finally:
            self.busy -= 1
        self.metrics.ended(status, time.monotonic() - started)
        headers = {"Retry-After": "1"} if status in (429, 503) else {}
        if status == 408:  # the rest of the body would be taken for a request
            headers["Connection"] = "close"
        text = json.dumps(without_nan(found), ensure_ascii=False, allow_nan=False)
        return Response(text.encode(), status, headers, "application/json")

    async def _body(self, request: Request, started: float) -> bytes:
        if self.draining:
            raise Refused(503, "the server is stopping")
        if request.query_params:
            raise Refused(422, f"?{one_line(request.query_params)}: keys stand in the body, not in the address")
        try:
            return await asyncio.wait_for(request.body(), self._until(started) - time.monotonic())
        except TimeoutError:
            raise Refused(408, f"no whole body within {self.config.deadline_ms:g} ms") from None
        except HTTPException as error:  # LitServe's, while it counts
            most = f"the body is longer than max_body_bytes={self.config.max_body_bytes:,}"
            raise Refused(error.status_code, most) from error
        except ClientDisconnect as error:
            raise Refused(400, "the client has gone") from error

    async def _answer(self, body: bytes, started: float) -> tuple[int, dict[str, Any]]:
        asked = read_body(body, self.offer, self.config)
        number = len(asked.texts)
        if self.waiting + number > self.config.max_queue:
            self.metrics.rejected.inc(number)
            raise Refused(429, f"the queue holds {self.waiting:,} texts, {self.config.max_queue:,} at most; try again")
        usual = self.usual_point()
        self._wait(number)
        try:
            point = asked.point or usual
            status, found = await self._ask(Job(asked.texts, point, asked.explain, self._until(started)))
        finally:
            self._wait(-number)
        if status == 200:
            self.metrics.answered(found["answers"], point)
        return status, found

    def _until(self, started: float) -> float:
        return started + self.config.deadline_ms / 1000

    def usual_point(self) -> str:
        """Return the operating point of a request that names none."""
        overload = self.config.overload
        return overload if overload is not None and self.waiting > self.config.crowded else self.offer.point

    def _wait(self, number: int) -> None:
        self.waiting += number
        self.metrics.queue.set(self.waiting)
        self.metrics.use(self.usual_point())

    async def _ask(self, job: Job) -> tuple[int, dict[str, Any]]:
        """Send a request through LitServe's queue, and wait for its answer until the deadline."""
        server, uid, event = self._server, os.urandom(16).hex(), asyncio.Event()
        server.response_buffer[uid] = ResponseBufferItem(event)
        try:
            server._get_request_queue(PREDICT).put((self.response_queue_id, uid, time.monotonic(), job))
            await asyncio.wait_for(event.wait(), job.deadline - time.monotonic())
        except TimeoutError:
            raise Refused(504, f"no answer within {self.config.deadline_ms:g} ms") from None
        finally:
            item = server.response_buffer.pop(uid)
        answer, _ = cast(tuple[tuple[int, dict[str, Any]], str], item.response)
        return answer

    def drain(self, leave: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Refuse new requests from now on, and leave once those under way are answered or their time is over."""
        if not self.draining:
            self.draining = True
            self._draining = loop.create_task(self._drain(leave))

    async def _drain(self, leave: Callable[[], None]) -> None:
        end = self._until(time.monotonic())
        while self.busy and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await asyncio.sleep(LINGER)
        leave()
