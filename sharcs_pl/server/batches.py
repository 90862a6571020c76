"""The texts that wait for the model, and which of them run next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sharcs_pl.inference.predictor import Text

SHORT = 64  # characters up to which texts count as equally short
MEDIUM = 2 * SHORT  # characters of a text of which as many run together as a batch may hold
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
    """Texts by operating point and length, fourfold from one group to the next.

    A batch holds texts of one operating point, at most `batch_size` of them and at most as many characters as that many
    texts of medium length, or one text. It is due once what waits would fill it, or its oldest text has waited
    `max_wait` seconds for others. The shortest texts run first, and longer ones fill what they leave, so that a short
    text waits for no more than the batch that runs already and its own. A text that has waited a tenth of its time runs
    before any that has not, so that long ones come to their turn, and that all come in the order of their arrival where
    more arrive than can be answered.

    Args:
        batch_size: texts of a batch, at most.
        longest: characters beyond which texts are cut, so that they count as equally long.
    """

    def __init__(self, batch_size: int, max_wait: float, longest: int) -> None:
        self.batch_size = batch_size
        self.max_wait = max_wait
        self.longest = longest
        self._kinds: dict[tuple[str, bool], dict[int, deque[Waiting]]] = {}

    def add(self, text: Waiting) -> None:
        """Put a text behind those of its group."""
        groups = self._kinds.setdefault((text.point, isinstance(text.text, tuple)), {})
        groups.setdefault((((self._size(text) - 1) // SHORT).bit_length() + 1) // 2, deque()).append(text)

    def wait(self, now: float) -> float | None:
        """Return the seconds until a batch is due, 0 for now; None where no text waits."""
        times = [self._due(groups) - now for groups in self._kinds.values()]
        return max(0.0, min(times)) if times else None

    def take(self, now: float) -> list[Waiting]:
        """Remove and return the batch that is next, of one operating point; empty where none is due. Texts whose
        deadline is over are dropped."""
        self._keep(lambda text: text.deadline > now)
        due = [groups for groups in self._kinds.values() if self._due(groups) <= now]
        if not due:
            return []
        _, groups, first = min(
            ((self._turn(number, group[0], now), groups, number) for groups in due for number, group in groups.items()),
            key=lambda found: found[0],
        )
        batch, room = [], MEDIUM * self.batch_size
        for number in (first, *sorted(groups.keys() - {first})):
            group = groups[number]
            while group and len(batch) < self.batch_size and (not batch or self._size(group[0]) <= room):
                batch.append(group.popleft())
                room -= self._size(batch[-1])
        self._keep(lambda text: True)
        return batch

    def drop(self, requests: Collection[str]) -> None:
        """Remove the texts of requests that need no more answers."""
        self._keep(lambda text: text.request not in requests)

    def _keep(self, wanted: Callable[[Waiting], bool]) -> None:
        for kind, groups in self._kinds.items():
            kept = {number: deque(filter(wanted, group)) for number, group in groups.items()}
            self._kinds[kind] = {number: group for number, group in kept.items() if group}
        self._kinds = {kind: groups for kind, groups in self._kinds.items() if groups}

    def _size(self, text: Waiting) -> int:
        parts = text.text if isinstance(text.text, tuple) else (text.text,)
        return max(1, min(sum(map(len, parts)), self.longest))

    def _due(self, groups: dict[int, deque[Waiting]]) -> float:
        full = sum(map(len, groups.values())) >= self.batch_size
        full = full or sum(self._size(text) for group in groups.values() for text in group) >= MEDIUM * self.batch_size
        return min(group[0].arrived for group in groups.values()) + (0 if full else self.max_wait)

    def _turn(self, number: int, oldest: Waiting, now: float) -> tuple[bool, float, float]:
        late = now - oldest.arrived > PATIENCE * (oldest.deadline - oldest.arrived)
        return not late, oldest.arrived if late else number, oldest.arrived
