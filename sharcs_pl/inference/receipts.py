"""The receipts of a folder of outputs: for each finished one, what its answers depend on and its counts.

They lie in the folder ``.sharcs`` beside the outputs. A receipt is written after its output and before the journal is
removed. A process that is killed between any two of these steps leaves an output with its receipt, or a journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sharcs_pl.core.files import write_text
from sharcs_pl.inference.journal import begun_with, difference, journal_path
from sharcs_pl.inference.summary import Summary

FOLDER = ".sharcs"


@dataclass(frozen=True)
class Receipt:
    """The receipt of an output below the folder of all outputs, and what the answers depend on that are asked for."""

    folder: Path
    output: Path
    fingerprint: Mapping[str, Any]

    @property
    def lock(self) -> Path:
        """The lock of the process that answers."""
        return self._beside(".lock")

    def write(self, summary: Summary) -> None:
        """Record that the output is finished."""
        path = self._beside(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = asdict(replace(summary, texts_per_second=None))
        found = {"fingerprint": self.fingerprint, "size": self.output.stat().st_size, "summary": counts}
        write_text(path, json.dumps(found, default=str) + "\n")

    def finished(self, overwrite: bool, skip: bool) -> Summary | None:
        """Return the counts of the output if it is finished, else None. Raise `ValueError` for an output or a journal
        of other answers than are asked for, or for one that has left rows out, unless `skip`: only `overwrite` replaces
        these."""
        there = self.output.exists()
        if there and (found := self._read()) is not None:
            changed = difference(found["fingerprint"], self.fingerprint)
            summary = Summary(**found["summary"])
            left_out = summary.rejected and not skip
            if changed is None and found["size"] == self.output.stat().st_size and not left_out:
                return summary
            left_out = f"{summary.rejected:,} rows left out by on_error=skip" if left_out else None
            unless = f"{self.output} is there with {changed or left_out or 'another size than was written'}"
        else:
            unless = f"{self.output} is there and was not written by this command" if there else None
        if overwrite:
            return None
        begun = begun_with(journal_path(self.output))
        if begun is not None:
            changed = difference(begun, self.fingerprint)
            unless = f"{journal_path(self.output)} was begun with {changed}" if changed else None
        if unless:
            raise ValueError(f"{unless}; replace it with overwrite=true, or give another output")
        return None

    def goes_on(self) -> bool:
        """Return True if the journal of the output is one of the answers that are asked for."""
        begun = begun_with(journal_path(self.output))
        return begun is not None and difference(begun, self.fingerprint) is None

    def clean(self) -> None:
        """Remove the journal of the same answers, which a process left that was killed right after the receipt."""
        try:
            ours = self.goes_on()
        except ValueError:  # a file of the user's
            ours = False
        if ours:
            journal_path(self.output).unlink()

    def _beside(self, suffix: str) -> Path:
        return self.folder / FOLDER / f"{self.output.relative_to(self.folder)}{suffix}"

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._beside(".json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and {"fingerprint", "size", "summary"} <= set(found) else None
