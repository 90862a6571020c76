from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

pytest.importorskip("litserve")

from litserve.specs.base import LitSpec

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.server.api import END, Job, RoutedAPI
from sharcs_pl.server.offer import make_offer
from tests.predict.conftest import saved, texts_of


class Sent:
    """A transport that keeps what is sent, and lets the loop end once all that it waits for are there."""

    def __init__(self, queue: Queue[Any], wanted: set[str]) -> None:
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.queue, self.wanted = queue, wanted

    def send(self, item: Any, consumer_id: int) -> None:
        uid, (answer, *_) = item
        assert uid not in self.answers
        self.answers[uid] = answer
        if set(self.answers) >= self.wanted:
            self.queue.put(END)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("api") / "model")


@pytest.fixture(scope="module")
def api(model: Path) -> RoutedAPI:
    config, source = ServeConfig(run=str(model), batch_size=8, max_wait_ms=20), open_trained(str(model), False)
    spec: Any = LitSpec()
    spec.api_path = "/predict"
    found = RoutedAPI(source, config, make_offer(source, config), spec)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    found.setup("cpu")
    for number, handler in before.items():
        assert signal.getsignal(number) == signal.SIG_IGN
        signal.signal(number, handler)
    return found


@pytest.fixture
def run(api: RoutedAPI) -> Callable[..., Sent]:
    def answered(**jobs: Job) -> Sent:
        queue: Queue[Any] = Queue()
        sent = Sent(queue, {uid for uid, job in jobs.items() if job.deadline > time.monotonic()})
        for uid, job in jobs.items():
            queue.put((0, uid, time.monotonic(), job))
        api.loop(api, "cpu", 0, queue, sent, {}, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return sent

    return answered


def job_of(texts: list[Any], point: str = "trained", explain: bool = False, seconds: float = 60) -> Job:
    return Job(texts, point, explain, time.monotonic() + seconds)


def test_every_point_answers_with_the_same_weights(api: RoutedAPI) -> None:
    assert list(api.predictors) == ["trained", "narrow", "top"]
    assert len({id(each.engine.backend) for each in api.predictors.values()}) == 1
    texts = texts_of(9)
    assert {each.rung for each in api.predict(texts, "narrow") if each} == {0}
    assert {each.rung for each in api.predict(texts, "top") if each} == {2}


@pytest.mark.parametrize("point", ["trained", "top"])
def test_texts_of_several_requests_are_answered_as_each_alone(
    api: RoutedAPI, model: Path, run: Callable[..., Sent], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    batches: list[int] = []
    predict = api.predict
    monkeypatch.setattr(api, "predict", lambda texts, point: (batches.append(len(texts)), predict(texts, point))[1])
    texts = texts_of(24, 1)
    sent = run(**{str(n): job_of(texts[3 * n : 3 * n + 3], point, explain=n == 0) for n in range(8)})
    alone = RoutedPredictor.from_pretrained(model, point=point)
    for number in range(8):
        status, found = sent.answers[str(number)]
        assert (status, found["point"], len(found["answers"])) == (200, point, 3)
        for position, record in enumerate(found["answers"]):
            (wanted,) = alone.predict([texts[3 * number + position]])
            assert record["row"] == position + 1
            assert (record["label"], record["width"], record["macs"]) == (wanted.label, wanted.width, wanted.macs)
            assert list(record["probabilities"].values()) == pytest.approx(wanted.probabilities, abs=1e-5)
            assert ("router_scores" in record) == (number == 0)
    assert max(batches) > 3, "one request has three texts"
    assert max(batches) <= 8


def test_a_failing_batch_is_told_and_the_next_ones_are_answered(
    api: RoutedAPI, run: Callable[..., Sent], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predict = api.predict
    sizes: list[int] = []

    def fails(texts: list[Any], point: str) -> Any:
        sizes.append(len(texts))
        if "bad" in texts:
            raise RuntimeError("out of memory")
        return predict(texts, point)

    monkeypatch.setattr(api, "predict", fails)
    sent = run(one=job_of(["bad"] * 8 + ["good"] * 12, "top"), other=job_of(["good"], "narrow"))
    assert sent.answers["one"] == (500, {"error": "the model has failed on this request"})
    assert sent.answers["other"][0] == 200
    assert "out of memory" in caplog.text
    assert sizes == [8, 1], "the rest of the request that has failed is not computed"


def test_an_answer_that_is_not_finite_is_told(
    api: RoutedAPI, run: Callable[..., Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = api.predict
    monkeypatch.setattr(
        api,
        "predict",
        lambda texts, point: [None if t == "bad" else a for t, a in zip(texts, predict(texts, point), strict=True)],
    )
    sent = run(one=job_of(["good", "bad"]), other=job_of(["good"]))
    assert sent.answers["one"] == (500, {"error": "texts[1]: the model's answer to it is not finite"})
    assert sent.answers["other"][0] == 200


def test_a_request_whose_time_is_over_is_not_answered(api: RoutedAPI, run: Callable[..., Sent]) -> None:
    sent = run(late=job_of(["good"], seconds=-1), other=job_of(["good"]))
    assert set(sent.answers) == {"other"}
    assert api.loop.open == {}  # pyright: ignore[reportAttributeAccessIssue]
