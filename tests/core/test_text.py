from __future__ import annotations

import pytest

from sharcs_pl.core.text import check_plain_name, latex, markdown, one_line, printable, spreadsheet


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 الحساء\tx\ny", "plain é 漢 الحساء\tx\ny"),
        ("\x1b[31mred\x1b]8;;http://x\x07", r"\x1b[31mred\x1b]8;;http://x\x07"),
        ("a\rb\x00\x7f\x9b31m", r"a\rb\x00\x7f\x9b31m"),
        ("abc\u202etxt.exe\u2066", r"abc\u202etxt.exe\u2066"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode()


def test_a_line_is_one_line() -> None:
    assert one_line(" a\r\n\tb\u2028c\x85d ") == "a b c d"
    assert one_line(3.5) == "3.5"


@pytest.mark.parametrize("name", ["mrpc", "own", "_a", "meine Aufgabe 2.1", "größe-3+x", "a.b", "x" * 100])
def test_a_plain_name_becomes_a_files(name: str) -> None:
    check_plain_name("task", name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc/x", "a/b", "a\\b", ".hidden", "-rf", "a\nb", "a\x1b", "c:x", "a\0", "x" * 101, "a."],
)
def test_any_other_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"^metrics\.json: task='.*is no plain name") as refused:
        check_plain_name("metrics.json: task", name)
    assert refused.value.args[0] == one_line(refused.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b*c`d|e~f$g\\h", r"a\_b\*c\`d\|e\~f\$g\\h"),
        ("<img src=x> & co", "&lt;img src=x&gt; &amp; co"),
        ("[x](http://y) ![z](w)", r"\[x\](http://y) !\[z\](w)"),
        ("[[a](b)][c] [d]: e", r"\[\[a\](b)\][c] \[d\]: e"),
        ("two\n# lines", "two # lines"),
        ("+0.0100 [-0.0100, +0.0200]", "+0.0100 [-0.0100, +0.0200]"),
    ],
)
def test_markdown_shows_the_text(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_latex_shows_the_text_and_runs_nothing() -> None:
    assert latex("\\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert latex("x\n\\end{tabular}%\n") == r"x \textbackslash{}end\{tabular\}\%"
    assert latex("a_b & c ± $d^2~#") == r"a\_b \& c $\pm$ \$d\textasciicircum{}2\textasciitilde{}\#"


def test_a_formula_is_a_text_and_a_number_a_number() -> None:
    assert [spreadsheet(cell) for cell in ("=1+1", "@x", "a=1", "", -0.5, None)] == [
        "'=1+1",
        "'@x",
        "a=1",
        "",
        -0.5,
        None,
    ]
