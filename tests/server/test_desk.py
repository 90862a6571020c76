from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("litserve")

from starlette.requests import Request
from starlette.responses import Response

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.server.api import Job
from sharcs_pl.server.desk import Desk
from sharcs_pl.server.offer import Offer

RECORD = {"row": 1, "label": "yes", "width": "0.5", "macs": 7}


class Model:
    """LitServe's server as a desk sees it; answers at once, or never."""

    def __init__(self, desk: Desk) -> None:
        self.response_buffer: dict[str, Any] = {}
        self.jobs: list[Job] = []
        self.answers = True
        self.waiting: list[int] = []
        self.desk = desk
        desk._server = self  # pyright: ignore[reportAttributeAccessIssue]

    def _get_request_queue(self, path: str) -> Model:
        return self

    def put(self, item: tuple[Any, str, float, Job]) -> None:
        self.jobs.append(item[3])
        self.waiting.append(self.desk.waiting)
        if self.answers:
            self.answer(item[1])

    def answer(self, uid: str) -> None:
        held = self.response_buffer[uid]
        held.response = ((200, {"point": "p", "answers": [RECORD]}), "OK")
        held.event.set()


@pytest.fixture
def desk(offer: Callable[..., Offer]) -> Callable[..., Desk]:
    return lambda **keys: Desk(ServeConfig(run="r", **keys), offer())


def request(body: bytes, query: str = "", whole: bool = True) -> Request:
    parts = [{"type": "http.request", "body": body, "more_body": not whole}]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(60)
        return parts.pop()

    return Request({"type": "http", "method": "POST", "headers": [], "query_string": query.encode()}, receive)


async def ask(desk: Desk, query: str = "", **keys: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    response = await desk.predict(request(json.dumps(keys).encode(), query))
    return response.status_code, json.loads(bytes(response.body)), dict(response.headers)


def test_an_answer_goes_back_and_is_counted(desk: Callable[..., Desk]) -> None:
    one = desk()
    model = Model(one)
    status, found, _ = asyncio.run(ask(one, text="a", explain=True))
    assert (status, found) == (200, {"point": "p", "answers": [RECORD]})
    assert (model.jobs[0].texts, model.jobs[0].point, model.jobs[0].explain) == (["a"], "trained", True)
    assert (one.waiting, one.busy, model.response_buffer) == (0, 0, {})
    assert b'sharcs_texts_total{point="trained",width="0.5"} 1.0' in one.metrics.told()
    assert b'sharcs_requests_total{status="200"} 1.0' in one.metrics.told()


def test_a_full_queue_refuses(desk: Callable[..., Desk]) -> None:
    one = desk(max_queue=3, max_texts=3, deadline_ms=200)
    Model(one).answers = False

    async def crowd() -> list[Any]:
        return list(await asyncio.gather(ask(one, texts=["a", "b"]), ask(one, texts=["c", "d"]), ask(one, text="e")))

    (first, _, _), (second, found, headers), (third, _, _) = asyncio.run(crowd())
    assert (first, second, third) == (504, 429, 504)
    assert "the queue holds 2 texts, 3 at most" in found["error"]
    assert headers["retry-after"] == "1"
    assert one.waiting == 0
    assert b"sharcs_rejected_total 2.0" in one.metrics.told()


def test_a_deadline_ends_a_request(desk: Callable[..., Desk]) -> None:
    one = desk(deadline_ms=60)
    model = Model(one)
    model.answers = False
    status, found, _ = asyncio.run(ask(one, text="a"))
    assert (status, found) == (504, {"error": "no answer within 60 ms"})
    assert (one.waiting, model.response_buffer) == (0, {})


def test_a_body_that_stalls_is_refused_and_a_drain_ends(desk: Callable[..., Desk]) -> None:
    one, left = desk(deadline_ms=60), asyncio.Event()

    async def end() -> Response:
        stalled = asyncio.create_task(one.predict(request(b'{"text"', whole=False)))
        await asyncio.sleep(0.02)
        one.drain(left.set, asyncio.get_running_loop())
        await asyncio.wait_for(left.wait(), 10)
        return await asyncio.wait_for(stalled, 10)

    response = asyncio.run(end())
    assert (response.status_code, response.headers["connection"]) == (408, "close")
    assert json.loads(bytes(response.body)) == {"error": "no whole body within 60 ms"}
    assert one.busy == 0


def test_a_drain_waits_no_longer_than_the_deadline(desk: Callable[..., Desk]) -> None:
    one, left = desk(deadline_ms=60), asyncio.Event()
    one.busy = 1

    async def end() -> None:
        one.drain(left.set, asyncio.get_running_loop())
        await asyncio.wait_for(left.wait(), 10)

    asyncio.run(end())


def test_a_bad_request_never_reaches_the_model(desk: Callable[..., Desk]) -> None:
    one = desk()
    model = Model(one)
    assert asyncio.run(ask(one, text=""))[:2] == (422, {"error": "text is empty"})
    status, found, _ = asyncio.run(ask(one, "point=cheap", text="a"))
    assert (status, found["error"][:12]) == (422, "?point=cheap")
    assert model.jobs == []


def test_a_long_queue_is_answered_at_the_point_of_an_overload(desk: Callable[..., Desk]) -> None:
    one = desk(overload="cheap", overload_above=2, deadline_ms=200)
    model = Model(one)
    model.answers = False

    async def crowd() -> None:
        asked = [
            ask(one, texts=["a", "b"]),
            ask(one, text="c"),
            ask(one, text="d"),
            ask(one, text="e", point="trained"),
        ]
        tasks = [asyncio.create_task(each) for each in asked]
        await asyncio.sleep(0.1)
        assert b"sharcs_overload 1.0" in one.metrics.told()
        assert b"sharcs_queue_texts 5.0" in one.metrics.told()
        await asyncio.gather(*tasks)

    asyncio.run(crowd())
    assert [job.point for job in model.jobs] == ["trained", "trained", "cheap", "trained"]
    assert b"sharcs_overload 0.0" in one.metrics.told()


def test_a_drain_refuses_new_requests_and_waits_for_those_under_way(desk: Callable[..., Desk]) -> None:
    one = desk()
    model = Model(one)
    model.answers = False
    left: list[str] = []

    async def end() -> tuple[int, int]:
        early = asyncio.create_task(ask(one, text="a"))
        await asyncio.sleep(0.05)
        for _ in range(2):
            one.drain(lambda: left.append("left"), asyncio.get_running_loop())
        late = (await ask(one, text="b"))[0]
        await asyncio.sleep(0.5)
        assert left == []
        model.answer(next(iter(model.response_buffer)))
        status = (await early)[0]
        await asyncio.sleep(0.5)
        return status, late

    assert asyncio.run(end()) == (200, 503)
    assert left == ["left"]


def test_the_model_s_process_gets_no_desk(desk: Callable[..., Desk]) -> None:
    there = pickle.loads(pickle.dumps(desk()))  # noqa: S301
    assert there.api_path == "/predict"
    assert not hasattr(there, "metrics")
