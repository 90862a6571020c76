"""Tab-separated files of GLUE, without quoting, with an optional byte-order mark and an optional header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sharcs_pl.data.containers import opened
from sharcs_pl.data.delimited import Record, plain_records
from sharcs_pl.data.lines import Fault, TextLines


class TsvFile:
    """The rows of a file without blank lines. `blank` and `short` count the skipped lines.

    Raise `ValueError` with file and line if it is neither UTF-8 nor UTF-16 with a byte-order mark.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.short = 0
        self._records: list[Record] = []
        with opened(path, None, "") as source:
            lines = TextLines(source, None, returns=True)
            for record in plain_records(lines, "\t"):
                if isinstance(record, Fault):
                    raise ValueError(f"{path}, line {lines.number}: {record.reason}; the official files are UTF-8")
                self._records.append(record)
        self.blank = lines.number - len(self._records)

    @property
    def header(self) -> list[str]:
        """The cells of the first line."""
        return self._records[0][1] if self._records else []

    def rows(
        self, wanted: Sequence[str], names: Sequence[str] | None = None, skip_short: bool = False
    ) -> Iterator[tuple[int, list[str]]]:
        """Yield the line number (from 1) and the wanted cells of each row.

        A quote is a plain character. `names` are the columns of a file without a header. `skip_short` skips rows with
        too few cells. Raise `ValueError` with file and line.
        """
        records = self._records if names else self._records[1:]
        names = names or self.header
        places = [self._place(names, column) for column in wanted]
        for number, cells in records:
            if skip_short and len(cells) < len(names):
                self.short += 1
                continue
            if len(cells) != len(names) and not skip_short:
                expected = f"expected {len(names)}: {', '.join(names)}"
                raise ValueError(f"{self.path}, line {number}: {len(cells)} cells, {expected}")
            yield number, [cells[place] for place in places]

    @property
    def left_out(self) -> str | None:
        """The numbers of lines that `rows` has skipped, as text, or None."""
        counts = {"blank": self.blank, "too short": self.short}
        parts = [f"{count:,} {what}" for what, count in counts.items() if count]
        return f"{' and '.join(parts)} line{'s' if self.blank + self.short > 1 else ''}" if parts else None

    def _place(self, names: Sequence[str], column: str) -> int:
        if column not in names:
            raise ValueError(f"{self.path}, line 1: no column {column!r} among {', '.join(names) or 'none'}")
        return list(names).index(column)
