"""Files of texts and labels that cannot be read, and the one line that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.data.files import Request, read_rows

REQUEST = Request(("text", "label"))


def rows_of(path: Path, request: Request = REQUEST) -> list[tuple]:
    return list(read_rows(path, request))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fault(path: Path, request: Request = REQUEST) -> str:
    """The message, which is one line of bearable length and names the file."""
    with pytest.raises(ValueError) as caught:
        rows_of(path, request)
    message = str(caught.value)
    assert len(message) < 300
    assert message.isprintable()
    assert message.startswith(path.name)
    return message


ADVICE = "double a quote inside a quoted cell, or set task.quoting=none where quotes are plain characters"

HEAD = "text,label\n"

DELIMITED_FAULTS = {
    "short row": ("a,1\n\nb\nc,2\n", "line 4: 1 cells, expected 2: text, label"),
    "long row": ("a,1,2\n", "line 2: 3 cells, expected 2: text, label"),
    "comma in a text with quotes": (
        'a "b, c",1\n',
        "line 2: 3 cells, expected 2: text, label; quotes count only around",
    ),
    "merged rows": ('"a,1\nb",c,2\n', "line 2: 3 cells, expected 2: text, label; a quoted cell spans several lines"),
    "no text after a quote": ('a,1\n"b" c,2\n', f"line 3: a stray quote before ' c,2\\n' in a quoted cell; {ADVICE}"),
    "open quote": ('a,1\n"b,2\nc,3\nd,4\n', f"line 3: a quote opens here and is never closed; {ADVICE}"),
    "open after a long cell": ('"a\n\nb","1\nc,2\n', "line 4: a quote opens here and is never closed"),
    "open after a plain cell": ('a,"1\nc,2\n', "line 2: a quote opens here and is never closed"),
    "open with doubled quotes": ('a,1\n"b ""c"",2\n', "line 3: a quote opens here and is never closed"),
    "quote of a later row": (
        'a,1\n"b,2\nc,3\n"d",4\n',
        "line 3: the quote that opens here meets a stray quote in line 5",
    ),
    "latin-1": (b"a,1\n\ncaf\xe9,1\n", "line 4: not UTF-8 at byte 19 of the file"),
    "nothing": ("\n\n", "no rows"),
}

JSONL_FAULTS = {
    "broken": ('{"text": "a"; "label": 1}', "invalid JSON: Expecting ',' delimiter at column 13"),
    "list": ('["a", 1]', "['a', 1] is not an object"),
    "missing key": ('{"txt": "a", "label": 1}', "no column 'text' (did you mean 'txt'?) among txt, label"),
    "surrogate": ('{"text": "a\\ud800", "label": 1}', "'text' holds '\\ud800', half of a surrogate pair"),
    "deep": ("[" * 100_000, "invalid JSON"),
    "digits": ('{"text": "a", "label": ' + "1" * 5000 + "}", "invalid JSON: 'Exceeds the limit"),
    "latin-1": (b'{"text": "caf\xe9", "label": 1}', "not UTF-8 at byte 40"),
}
