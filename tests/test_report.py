"""``sharcs report``: files that say the same, a page that asks for nothing, mistakes in one line."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sharcs_pl import report
from sharcs_pl.analysis.comparison.page import page
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.report import ReportConfig
from tests.analysis.comparison.made_runs import make_run

pytest.importorskip("matplotlib")


def checked(*overrides: str) -> ReportConfig:
    return read_command("report", ReportConfig, ["draws=200", *overrides])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, three methods, two seeds of one."""
    folder = tmp_path_factory.mktemp("runs")
    curve = {"": [(0.4, 0.7), (0.6, 0.8), (1.0, 0.9)], "random": [(0.4, 0.6), (0.6, 0.7)], "oracle": [(0.4, 0.95)]}
    curve["cascade"] = [(0.7, 0.88)]
    for seed in (1, 2):
        make_run(folder / f"sharcs-{seed}", points=curve, seed=seed, bench=seed == 1)
    make_run(folder / "dense", "dense", widths=(1.0,), cost=1.0, right=0.9, oracle=False)
    make_run(folder / "exit", "deebert", points={"": [(0.3, 0.6), (0.9, 0.85)], "exit": [(0.3, 0.6)]})
    make_run(folder / "odd", "a_b & <c>|%", task="sst2")
    return folder


@pytest.fixture(scope="module")
def made(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all of them."""
    folder = tmp_path_factory.mktemp("report")
    sections = report.run(checked(f"runs=[{runs}]", f"output={folder}", "title='A & <B>'"))
    assert [section.task for section in sections] == ["mrpc", "sst2"]
    return folder


class Requests(HTMLParser):
    """Every address that a page names, and every tag that is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_is_written(made: Path) -> None:
    written = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert written == {
        "report.html", "report.md", "report.tex", "summary.csv", "points.csv", ".sharcs.json",
        *(f"figures/{t}{c}.{kind}" for t in ("mrpc", "sst2") for c in ("", "_controls") for kind in ("png", "svg")),
    }  # fmt: skip
    rows = list(csv.DictReader((made / "summary.csv").read_text().splitlines()))
    sharcs = next(row for row in rows if row["method"] == "sharcs")
    assert (sharcs["seeds"], float(sharcs["at_budget"])) == ("2", pytest.approx(0.75))
    assert sharcs["minus_dense"] != ""
    points = list(csv.DictReader((made / "points.csv").read_text().splitlines()))
    assert sum(row["method"] == "sharcs" and row["control"] == "" for row in points) == 6


def test_the_page_asks_for_nothing_and_is_well_formed(made: Path) -> None:
    text = (made / "report.html").read_text()
    seen = Requests()
    seen.feed(text)
    assert seen.open == ["html"] or not seen.open
    assert not {"script", "link", "iframe", "object", "embed"} & seen.tags
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in seen.addresses)
    assert "default-src 'none'" in text
    assert not re.findall(r"url\(|@import", text)
    assert "<h1>A &amp; &lt;B&gt;</h1>" in text
    assert "a_b &amp; &lt;c&gt;|%" in text
    assert "1.90x" in text  # measured, beside 2.00x promised


def test_tables_escape_what_their_format_reads(made: Path) -> None:
    tex, markdown = ((made / f"report.{kind}").read_text() for kind in ("tex", "md"))
    assert r"a\_b \& <c>|\% & 1 &" in tex
    assert r"| a\_b &amp; &lt;c&gt;\|% | 1 |" in markdown


HOSTILE = "[bold]x[/]\n\\input{/etc/passwd}%<b>|$\x1b[31m=1"


def test_what_a_stranger_wrote_is_a_text_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the method, its settings and its points: no format reads any of it, nor does the terminal."""
    settings = {"optim": {"lr": HOSTILE}}
    make_run(tmp_path / "a", HOSTILE, settings=settings, points={"": [(0.4, 0.7)]}, bench=True)
    make_run(tmp_path / "b", HOSTILE, right=0.7)
    make_run(tmp_path / "c", "=cmd()", right=0.6)
    report.run(checked(f"runs=[{tmp_path}]", f"output={tmp_path / 'r'}"))
    shown = r"[bold]x[/] \input{/etc/passwd}%<b>|$\x1b[31m=1"
    out = capsys.readouterr().out
    assert "\x1b[31m" not in out
    assert "[bold]x[/]" in out
    files = {path.suffix: path.read_text() for path in (tmp_path / "r").iterdir() if path.is_file()}
    assert not [kind for kind, text in files.items() if "\x1b" in text]
    assert r"\input" not in files[".tex"].replace(r"\textbackslash{}input\{", "")
    assert not [line for line in files[".tex"].splitlines() if line.startswith(("\\input", "["))]
    assert "<b>" not in files[".md"]
    assert "<b>" not in files[".html"]
    rows = list(csv.DictReader((tmp_path / "r" / "summary.csv").read_text().splitlines()))
    methods = {row["method"] for row in rows}
    assert methods == {"'=cmd()", f"{shown} (optim.lr={shown})", f"{shown} (optim.lr=0.0001)"}


@pytest.mark.parametrize("metric", ["nope", HOSTILE])
def test_a_metric_that_nobody_computes_is_refused(tmp_path: Path, metric: str) -> None:
    make_run(tmp_path / "runs" / "a", metric=metric)
    with pytest.raises(ValueError, match=r"metrics\.json: metric=.* is unknown; it must be one of: accuracy, f1") as no:
        report.run(checked(f"runs=[{tmp_path / 'runs'}]", f"output={tmp_path / 'r'}"))
    assert "\n" not in str(no.value)
    assert "\x1b" not in str(no.value)


@pytest.mark.parametrize("task", ["../../out", "/tmp/out", "a/b", "", ".", "x\ny"])
def test_a_task_that_is_no_plain_name_is_refused(tmp_path: Path, task: str) -> None:
    make_run(tmp_path / "runs" / "a", task=task)
    with pytest.raises(ValueError, match=r"metrics\.json: task='.*' is no plain name") as refused:
        report.run(checked(f"runs=[{tmp_path / 'runs'}]", f"output={tmp_path / 'r'}"))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "r").exists()


def test_the_best_at_the_budget_is_marked(made: Path) -> None:
    text = (made / "report.md").read_text()
    assert "**0.7500 ± 0.0000**" in text
    assert text.index("| sharcs |") < text.index("| deebert |") < text.index("| dense |")


def test_a_rule_stands_beside_its_controls_at_the_budget(made: Path) -> None:
    """A cascade whose cheapest point is dearer than the budget has no value there."""
    text = (made / "report.md").read_text()
    assert "| sharcs | 0.7500 ± 0.0000 | 0.6500 ± 0.0000 | - | - |" in text
    assert "| deebert | 0.6833 | - | - | 0.6000 |" in text
    with (made / "summary.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["sharcs"]["random_at_budget"]) == pytest.approx(0.65)
    assert (rows["sharcs"]["cascade_at_budget"], rows["dense"]["random_at_budget"]) == ("", "")


def test_a_title_is_text_and_no_place(runs: Path, tmp_path: Path) -> None:
    report.run(checked(f"runs=[{runs}/dense]", "title='NAV $body BODY'", f"output={tmp_path / 'r'}"))
    assert (tmp_path / "r" / "report.html").read_text().count("NAV $body BODY") == 2


def test_names_are_given_to_entries(runs: Path, tmp_path: Path) -> None:
    """And a report may be written over an earlier one."""
    entries, output = f"runs=[{runs}/sharcs-*,{runs}/dense]", f"output={tmp_path / 'r'}"
    report.run(checked(f"runs=[{runs}/dense]", output))
    assert "BERT" not in (tmp_path / "r" / "report.html").read_text()
    (found,) = report.run(checked(entries, "names=[Ours,BERT]", output))
    assert "BERT" in (tmp_path / "r" / "report.html").read_text()
    assert {row.method.name: len(row.method.runs) for row in found.standings} == {"Ours": 2, "BERT": 1}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("runs=[]",), "runs=.. is empty"),
        (("runs=[RUNS/nowhere]",), "there is nothing at"),
        (("runs=[RUNS/sharcs-1]", "names=[a,b]"), "names has 2 entries, runs has 1"),
        (("runs=[RUNS]", "only_task=mrpc"), "odd is of task=sst2, which only_task=mrpc excludes"),
        (("runs=[RUNS]", "budget=2"), "budget=2"),
        (("runs=[RUNS]", "unfinished=maybe"), "unfinished=maybe is unknown"),
        (("runs=[RUNS/dense]", "draws=1"), "draws=1 is out of range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_names_the_key(runs: Path, tmp_path: Path, overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        report.run(read_command("report", ReportConfig, [
            *(text.replace("RUNS", str(runs)) for text in overrides), f"output={tmp_path / 'r'}",
        ]))  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_a_folder_of_other_files_is_left_alone(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="holds other files"):
        report.run(checked(f"runs=[{runs}]", f"output={tmp_path / 'r'}"))


def test_without_matplotlib_the_extra_is_named(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharcs_pl.analysis.figures.style.have_matplotlib", lambda: False)
    with pytest.raises(ValueError, match=r"sharcs-pl\[plots\]"):
        report.run(checked(f"runs=[{runs}]", f"output={tmp_path / 'r'}"))


def test_a_page_of_nothing_is_a_page() -> None:
    assert "<h1>Empty</h1>" in page([], "Empty")


def test_a_folder_of_the_users_is_not_taken_for_a_report(runs: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mrpc.png").write_text("the user's")
    for name in ("report.md", None):
        if name:
            (tmp_path / name).write_text("the user's")
        with pytest.raises(ValueError, match=f"{name or 'figures/mrpc.png'} is there and was not written by this comm"):
            report.run(checked(f"runs=[{runs}]", f"output={tmp_path}"))
        if name:
            assert (tmp_path / name).read_text() == "the user's"
            (tmp_path / name).unlink()
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mrpc.png"]
    (made / ".sharcs.json").unlink()  # an older version's report has no list, and may be written anew
    report.run(checked(f"runs=[{runs}]", f"output={made}", "title='A & <B>'"))
