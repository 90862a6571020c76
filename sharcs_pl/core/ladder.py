"""The common part of ladders, whose rungs are widths, early exits or thresholds of token skimming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

TRAINED = "trained"  # the operating point of training, which every model has


@dataclass(frozen=True)
class Rung:
    """The names of one rung.

    Attributes: label, such as ``0.25``, ``layer_2`` or ``keep_0.5``, for columns and files; title, the name of its row
    in a table; place, which completes "every text …"; width, as a fraction of the full one; layer, counted from 1, of
    an exit, else None; keep, the threshold of a skimming rung as a probability, else None.
    """

    label: str
    title: str
    place: str
    width: float = 1.0
    layer: int | None = None
    keep: float | None = None


class Ladder:
    """Rungs in increasing order of cost.

    Attributes: kind, one of ``width``, ``exit`` and ``threshold``; control, the name of the rows in ``curve.csv`` with
    every sample on one rung.
    """

    kind: ClassVar[str]
    control: ClassVar[str]

    def rungs(self) -> list[Rung]:
        """Return the names of all rungs."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.rungs())

    @property
    def top(self) -> int:
        """The index of the most expensive rung, which is the stock model."""
        return len(self) - 1

    def labels(self) -> list[str]:
        """Return the labels of all rungs."""
        return [rung.label for rung in self.rungs()]
