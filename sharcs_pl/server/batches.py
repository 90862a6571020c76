"""The texts that wait for the model, and which of them run next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sharcs_pl.inference.predictor import Text

SHORT = 64  # characters up to which texts count as equally short
PATIENCE = 0.1  # share of its time that a text lets shorter ones go first


@dataclass(frozen=True)
class Waiting:
    """A text of a request, its position there, when it arrived and until when its answer is of use (both in seconds of
    the monotonic clock)."""

    request: str
    position: int
    text: Text
    point: str
    arrived: float
    deadline: float


class Batcher:
    """Texts by operating point and length, fourfold from one group to the next. A group's texts run together.

    A group is due once it fills a batch or its oldest text has waited `max_wait` seconds for others. Of those that are
    due the shortest runs first, so that a short text waits for no more than the batch of long ones that runs already.
    A text that has waited a tenth of its time runs before any that has not, so that long ones come to their turn, and
    that all come in the order of their arrival where more arrive than can be answered.

    Args:
        batch_size: texts of a batch, at most.
        longest: characters beyond which texts are cut, so that they count as equally long.
    """

    def __init__(self, batch_size: int, max_wait: float, longest: int) -> None:
        self.batch_size = batch_size
        self.max_wait = max_wait
        self.longest = longest
        self._groups: dict[tuple[int, str, bool], deque[Waiting]] = {}

    def add(self, text: Waiting) -> None:
        """Put a text behind those of its group."""
        parts = text.text if isinstance(text.text, tuple) else (text.text,)
        size = min(sum(map(len, parts)), self.longest)
        key = (((max(size, 1) - 1) // SHORT).bit_length() + 1) // 2, text.point, len(parts) > 1
        self._groups.setdefault(key, deque()).append(text)

    def wait(self, now: float) -> float | None:
        """Return the seconds until a batch is due, 0 for now; None where no text waits."""
        times = [self._due(group) - now for group in self._groups.values()]
        return max(0.0, min(times)) if times else None

    def take(self, now: float) -> list[Waiting]:
        """Remove and return the batch that is next, of one operating point; empty where none is due. Texts whose
        deadline is over are dropped."""
        self._keep(lambda text: text.deadline > now)
        due = [key for key, group in self._groups.items() if self._due(group) <= now]
        if not due:
            return []
        key = min(due, key=lambda key: self._turn(key, now))
        group = self._groups[key]
        batch = [group.popleft() for _ in range(min(self.batch_size, len(group)))]
        if not group:
            del self._groups[key]
        return batch

    def drop(self, requests: Collection[str]) -> None:
        """Remove the texts of requests that need no more answers."""
        self._keep(lambda text: text.request not in requests)

    def _keep(self, wanted: Callable[[Waiting], bool]) -> None:
        kept = {key: deque(filter(wanted, group)) for key, group in self._groups.items()}
        self._groups = {key: group for key, group in kept.items() if group}

    def _due(self, group: deque[Waiting]) -> float:
        return group[0].arrived + (0 if len(group) >= self.batch_size else self.max_wait)

    def _turn(self, key: tuple[int, str, bool], now: float) -> tuple[bool, float, float]:
        oldest = self._groups[key][0]
        late = now - oldest.arrived > PATIENCE * (oldest.deadline - oldest.arrived)
        return not late, oldest.arrived if late else key[0], oldest.arrived
