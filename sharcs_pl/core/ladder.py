"""What every ladder says of its rungs, whether these are widths, early exits or thresholds of token skimming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True)
class Rung:
    """How one rung is named.

    Attributes: label, such as ``0.25``, ``layer_2`` or ``keep_0.5``, for columns and files; title, a row of a table;
    place, which completes "every text …"; the fact of its kind: width as a fraction of the full one, layer counted from
    1, keep as a probability, None where the kind has no such fact.
    """

    label: str
    title: str
    place: str
    width: float = 1.0
    layer: int | None = None
    keep: float | None = None


class Ladder(Protocol):
    """Rungs in the order of their cost, the cheapest first.

    Attributes: kind, one of ``width``, ``exit`` and ``threshold``; control, the name in ``curve.csv`` of the rows that
    put every sample on one rung.
    """

    kind: ClassVar[str]
    control: ClassVar[str]

    def __len__(self) -> int: ...

    @property
    def top(self) -> int:
        """The most expensive rung, which is the stock model."""
        ...

    def rungs(self) -> list[Rung]:
        """The names of all rungs."""
        ...

    def labels(self) -> list[str]:
        """The labels of all rungs."""
        ...
