"""The common part of the ladders of early exits and token skimming, whose rungs all run at full width."""

from __future__ import annotations

from sharcs_pl.core.ladder import Rung


class FullWidthLadder:
    """A ladder by the names of its rungs."""

    def rungs(self) -> list[Rung]:
        """Return the names of all rungs."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.rungs())

    @property
    def top(self) -> int:
        """The index of the last rung, the whole stock model."""
        return len(self) - 1

    def labels(self) -> list[str]:
        """Return the labels of all rungs, such as "layer_2" or "keep_0.5", for tables and files."""
        return [rung.label for rung in self.rungs()]
