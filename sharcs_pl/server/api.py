"""The process that holds the model: batches from the requests that wait, answers to those that are complete."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from litserve import LitAPI
from litserve.loops import LitLoop
from litserve.specs.base import LitSpec
from litserve.transport.base import MessageTransport
from litserve.utils import LitAPIStatus, LoopResponseType

from sharcs_pl.config.command_line import user_errors
from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.core.decision import NEVER, DecisionRule, stored_rule
from sharcs_pl.inference.opening import open_predictor
from sharcs_pl.inference.rows import InputRow, Rejected
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.inference.writers import columns_of
from sharcs_pl.server.batches import Batcher, Waiting
from sharcs_pl.server.offer import Offer

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import Prediction, RoutedPredictor, Text

END = (None, None, None, None)
"""What LitServe's own loops take for the end of all requests."""
_PER_TOKEN = 8  # characters of a token, at most, in nearly all texts
_OK: Any = LitAPIStatus.OK  # a text, where LitServe's own hint says otherwise
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A checked request on its way to the model."""

    texts: Sequence[Text]
    point: str
    explain: bool
    deadline: float


class RoutedAPI(LitAPI):
    """The predictor of ``sharcs predict`` as LitServe's interface wants it: one model, a rule per operating point."""

    def __init__(self, source: TrainedModel, config: ServeConfig, offer: Offer, spec: LitSpec) -> None:
        wait = config.max_wait_ms / 1000
        super().__init__(spec=spec, loop=BatchLoop(Batcher(config.batch_size, wait, _PER_TOKEN * offer.max_length)))
        self.source, self.config, self.offer = source, config, offer
        self.predictors: dict[str, RoutedPredictor] = {}

    def setup(self, device: Any) -> None:
        """Load the model, and answer once with every rule, so that the first request waits for nothing."""
        for number in (signal.SIGINT, signal.SIGTERM):  # the requests in hand are answered; `END` comes after them
            signal.signal(number, signal.SIG_IGN)
        config = self.config
        with user_errors(ServeConfig):
            predictor = open_predictor(
                self.source,
                config.device,
                config.backend,
                batch_size=config.batch_size,
                max_length=self.offer.max_length,
                point=self.offer.point,
                precision=config.precision,
                compile=config.compile,
            )
        top, labels = len(predictor.widths) - 1, predictor.cost.shape.num_labels
        for point in self.offer.points:
            rule = stored_rule(self.offer.settings, top + 1, labels, point)
            self.predictors[point] = predictor.with_rule(rule)
        rungs = [DecisionRule(starts=(NEVER,) * rung + (-NEVER,) * (top - rung)) for rung in range(top + 1)]
        short, long = "warm", " ".join(["warm"] * self.offer.max_length)
        texts = [(text, text) if len(self.offer.columns or ()) > 1 else text for text in (short, long)]
        for routed in (*map(predictor.with_rule, rungs), *self.predictors.values()):
            routed.try_predict(texts)

    def predict(self, x: Sequence[Text], point: str) -> list[Prediction | None]:
        """Answer texts with the rule of an operating point, None for an answer that is not finite."""
        return self.predictors[point].try_predict(x)

    def records(self, job: Job, found: list[Prediction | None]) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of an answer."""
        columns = columns_of(self.predictors[job.point], (), job.explain)
        answers = []
        for number, (text, prediction) in enumerate(zip(job.texts, found, strict=True), 1):
            row = InputRow(number, text if isinstance(text, tuple) else (text,), (), f"texts[{number - 1}]")
            if prediction is None:
                return 500, {"error": str(Rejected.unanswered(row))}
            answers.append(columns.record(row, prediction))
        return 200, {"point": job.point, "answers": answers}


@dataclass
class _Open:
    """A request of which some texts are not answered yet, and the process that waits for it."""

    job: Job
    consumer: int
    found: dict[int, Prediction | None] = field(default_factory=dict)


class BatchLoop(LitLoop):
    """Answer texts in batches that go across requests."""

    def __init__(self, batcher: Batcher) -> None:
        super().__init__()
        self.batcher = batcher
        self.open: dict[str, _Open] = {}

    def __call__(
        self,
        lit_api: RoutedAPI,
        device: str,
        worker_id: int,
        request_queue: Queue,
        transport: MessageTransport,
        *_: Any,
    ) -> None:
        """Run until `END` comes, or until the process of the queue has gone."""
        try:
            while self._receive(request_queue):
                self._step(lit_api, transport)
        except (EOFError, ConnectionError):
            return

    def _receive(self, queue: Queue) -> bool:
        """Take in every request that is there; wait for one, but not longer than until a batch is due. Return False for
        `END`."""
        number, wait = queue.qsize(), self.batcher.wait(time.monotonic())
        if number == 0 and wait != 0:
            try:
                return self._add(*queue.get(timeout=wait))
            except Empty:
                return True
        return all(self._add(*queue.get()) for _ in range(number))

    def _add(self, consumer: int | None, uid: str | None, at: float | None, job: Job | None) -> bool:
        if consumer is None or uid is None or at is None or job is None:
            return False
        self.open[uid] = _Open(job, consumer)
        for position, text in enumerate(job.texts):
            self.batcher.add(Waiting(uid, position, text, job.point, at, job.deadline))
        return True

    def _step(self, lit_api: RoutedAPI, transport: MessageTransport) -> None:
        now = time.monotonic()
        batch = self.batcher.take(now)
        self.open = {uid: found for uid, found in self.open.items() if found.job.deadline > now}
        if not batch:
            return
        requests = dict.fromkeys(text.request for text in batch)
        try:
            answers = lit_api.predict([text.text for text in batch], batch[0].point)
        except Exception:  # noqa: BLE001  (told in the log, and to those who asked)
            _log.exception("a batch of %d texts has failed", len(batch))
            self.batcher.drop(requests)
            for uid in requests:
                if uid in self.open:
                    self._send(transport, uid, (500, {"error": "the model has failed on this request"}))
            return
        for text, answer in zip(batch, answers, strict=True):
            if text.request in self.open:
                self.open[text.request].found[text.position] = answer
        for uid in requests:
            held = self.open.get(uid)
            if held is not None and len(held.found) == len(held.job.texts):
                found = [held.found[position] for position in range(len(held.found))]
                self._send(transport, uid, lit_api.records(held.job, found))

    def _send(self, transport: MessageTransport, uid: str, answer: tuple[int, dict[str, Any]]) -> None:
        held = self.open.pop(uid)
        self.put_response(transport, held.consumer, uid, answer, _OK, LoopResponseType.REGULAR)
