"""Reading tab-separated files as GLUE writes them: no quoting, perhaps a byte-order mark, perhaps no header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sharcs_pl.data.files import utf8_fault


def read_tsv(
    path: Path, wanted: Sequence[str], names: Sequence[str] | None = None, skip_short: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and the wanted cells of each row.

    Quotes mean nothing: a text may hold one of a pair. `names` are the columns of a file without a header. Rows with
    too few cells are left out where `skip_short`. Raises `ValueError` with file and line.
    """
    lines = _lines(path)
    names = names or (lines.pop(0)[1].split("\t") if lines else [])
    places = [_place(path, names, column) for column in wanted]
    for number, line in lines:
        cells = line.split("\t")
        if skip_short and len(cells) < len(names):
            continue
        if len(cells) != len(names) and not skip_short:
            raise ValueError(f"{path}, line {number}: {len(cells)} cells, expected {len(names)}: {', '.join(names)}")
        yield number, [cells[place] for place in places]


def read_header(path: Path) -> list[str]:
    """The cells of the first line."""
    lines = _lines(path)
    return lines[0][1].split("\t") if lines else []


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not empty; only line feeds and carriage returns end one, not every Unicode separator."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        line, byte = utf8_fault(path)
        raise ValueError(f"{path}, line {line}: not UTF-8 at byte {byte} of the file") from None
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line]


def _place(path: Path, names: Sequence[str], column: str) -> int:
    if column not in names:
        raise ValueError(f"{path}, line 1: no column {column!r} among {', '.join(names) or 'none'}")
    return list(names).index(column)
