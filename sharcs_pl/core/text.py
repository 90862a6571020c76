"""Names that were found in files, on their way to a terminal, a file's name or a document of another format."""

from __future__ import annotations

import html
import re

# Control characters but tab and newline, marks that turn the direction of a text, and halves of surrogate pairs.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Brackets only where they would make a link or an image.
_MARKDOWN = re.compile(r"([\\`*_|~$]|\[(?=[^\]]*\][(\[:])|\](?=[(\[:]))")
_PLAIN_NAME = re.compile(r"\w[\w .+-]{0,99}")
_LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def printable(text: str) -> str:
    """The text with what a terminal would obey, and nobody would see, written out: ``\\x1b`` for an escape."""
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(text: object) -> str:
    """The same in a line of its own: runs of white space become a space."""
    return printable(" ".join(str(text).split()))


def check_plain_name(where: str, name: str) -> None:
    """``ValueError`` unless a name can become a file's: letters, digits and ``_ . + -`` or spaces between them."""
    if not _PLAIN_NAME.fullmatch(name) or name.endswith((".", " ")):
        raise ValueError(
            f"{where}={one_line(name)[:60]!r} is no plain name: a letter, digit or _ and up to 99 letters, digits, "
            "spaces and _ . + - after it"
        )


def markdown(text: object) -> str:
    """A line of plain Markdown: no mark-up, no HTML, no cell or line of its own."""
    return _MARKDOWN.sub(r"\\\1", html.escape(one_line(text), quote=False))


def latex(text: object) -> str:
    """A line of plain LaTeX."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def spreadsheet(cell: object) -> object:
    """A cell of a CSV file for spreadsheets: a name that would be taken for a formula gets an apostrophe before it."""
    if not isinstance(cell, str):
        return cell
    line = one_line(cell)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
