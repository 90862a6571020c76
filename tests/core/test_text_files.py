from __future__ import annotations

import pytest

from sharcs_pl.core.text_files import DELIMITER_NAMES, delimiter_name, delimiter_of, encoding_of


@pytest.mark.parametrize(
    ("value", "character"),
    [*DELIMITER_NAMES.items(), ("Tab", "\t"), ("\\t", "\t"), *((each, each) for each in "\t;|,^\x01")],
)
def test_a_delimiter_is_a_name_or_a_character(value: str, character: str) -> None:
    assert delimiter_of("k", value) == character
    assert delimiter_of("k", delimiter_name(character)) == character


@pytest.mark.parametrize("value", ["", ";;", "tabs", '"', "\n", "\r", "a", "1", "é"])
def test_what_cannot_separate_cells_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)^task\.delimiter=.*is no delimiter; .*comma, semicolon, tab, pipe$"):
        delimiter_of("task.delimiter", value)


def test_what_a_shell_leaves_of_a_tab_is_told() -> None:
    with pytest.raises(ValueError, match=r"did you mean tab\?$"):
        delimiter_of("task.delimiter", "t")


def test_an_encoding_has_one_name() -> None:
    assert {encoding_of("k", name) for name in ("latin-1", "LATIN1", "iso-8859-1", "L1")} == {"iso8859-1"}
    assert encoding_of("k", "windows-1252") == encoding_of("k", "cp1252")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("latn-1", "did you mean latin_1"),
        ("cp1525", "did you mean cp125"),
        ("base64", "give one such as latin-1"),
        ("rot13", "give one such as"),
        ("idna", "give one such as"),
        ("undefined", "give one such as"),
        ("unicode_escape", "give one such as"),
        ("", "give one such as"),
        ("\0", "give one such as"),
    ],
)
def test_what_is_no_encoding_of_texts_is_refused_with_the_closest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^encoding=.* is no encoding of texts; ") as caught:
        encoding_of("encoding", name)
    assert hint in str(caught.value)
