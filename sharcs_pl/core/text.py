"""Escapes for names from files, before they reach a terminal, a file name or a document of another format."""

from __future__ import annotations

import html
import re

# Control characters except tab and newline, marks of text direction, and halves of surrogate pairs.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Brackets are escaped only if they would make a link or an image.
_MARKDOWN = re.compile(r"([\\`*_|~$]|\[(?=[^\]]*\][(\[:])|\](?=[(\[:]))")
_PLAIN_NAME = re.compile(r"\w[\w .+-]{0,99}")
_LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def printable(text: str) -> str:
    """Return the text with invisible control characters written out, such as ``\\x1b`` for an escape."""
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(text: object) -> str:
    """Return the printable text on one line, with every run of white space replaced by one space."""
    return printable(" ".join(str(text).split()))


def check_plain_name(where: str, name: str) -> None:
    """Raise ``ValueError`` unless a name suits a file: letters, digits, ``_``, and inside it ``. + -`` and spaces."""
    if not _PLAIN_NAME.fullmatch(name) or name.endswith((".", " ")):
        raise ValueError(
            f"{where}={one_line(name)[:60]!r} is no plain name: a letter, digit or _ and up to 99 letters, digits, "
            "spaces and _ . + - after it"
        )


def markdown(text: object) -> str:
    """Return a text as one line of plain Markdown, with mark-up, HTML and cell separators escaped."""
    return _MARKDOWN.sub(r"\\\1", html.escape(one_line(text), quote=False))


def latex(text: object) -> str:
    """Return a text as one line of plain LaTeX."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def spreadsheet(cell: object) -> object:
    """Return a cell of a CSV file. A text that a spreadsheet would read as a formula gets an apostrophe before it."""
    if not isinstance(cell, str):
        return cell
    line = one_line(cell)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
