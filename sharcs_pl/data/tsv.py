"""Tab-separated files of GLUE, without quoting, with an optional byte-order mark and an optional header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sharcs_pl.data.containers import UTF8, mark_of


class TsvFile:
    """The lines of a file without blank ones. `blank` and `short` count the skipped lines.

    Raise `ValueError` with file and line if it is neither UTF-8 nor UTF-16 with a byte-order mark.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.short = 0
        lines = list(enumerate(_text(path).removesuffix("\n").split("\n"), 1))
        self._lines = [(number, line) for number, line in lines if line]
        self.blank = len(lines) - len(self._lines)

    @property
    def header(self) -> list[str]:
        """The cells of the first line."""
        return self._lines[0][1].split("\t") if self._lines else []

    def rows(
        self, wanted: Sequence[str], names: Sequence[str] | None = None, skip_short: bool = False
    ) -> Iterator[tuple[int, list[str]]]:
        """Yield the line number (from 1) and the wanted cells of each row.

        A quote is a plain character. `names` are the columns of a file without a header. `skip_short` skips rows with
        too few cells. Raise `ValueError` with file and line.
        """
        lines = self._lines if names else self._lines[1:]
        names = names or self.header
        places = [self._place(names, column) for column in wanted]
        for number, line in lines:
            cells = line.split("\t")
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


def _text(path: Path) -> str:
    """Return the text of a file. Only line feeds and carriage returns end a line, not other Unicode separators."""
    content = path.read_bytes()
    encoding, length = mark_of(content[:4])
    try:
        text = content[length:].decode(encoding or UTF8)
    except UnicodeDecodeError as error:
        byte = length + error.start
        line = content.count(b"\n", 0, byte) + 1
        why = f"not {encoding}" if encoding not in (None, UTF8) else f"not UTF-8 at byte {byte} of the file"
        raise ValueError(f"{path}, line {line}: {why}; the official files are UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
