"""Compare finished runs: ``sharcs report 'runs=[runs/mrpc-*]' output=report``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sharcs_pl.config.command_line import run_command
from sharcs_pl.config.report import ReportConfig
from sharcs_pl.core.files import write_text
from sharcs_pl.core.written import LIST, Written
from sharcs_pl.runs.directory import check_writable

if TYPE_CHECKING:
    from sharcs_pl.analysis.comparison.methods import TaskComparison
    from sharcs_pl.analysis.comparison.runs import RunResult

PAGE = "report.html"
FIGURES = "figures"
FILES = (PAGE, "report.md", "report.tex", "summary.csv", "points.csv", FIGURES)


def main() -> None:
    """Run the command; a mistake is one line on stderr and exit code 2."""
    run_command("report", ReportConfig, run)


def run(config: ReportConfig) -> list[TaskComparison]:
    """Read, compare, draw, write and print; return a section per task."""
    folder = check_report_folder(config.output)
    found = read_runs(config)
    check_tasks(config, [run for _, run in found])
    check_figures()
    sections = compare(config, found)
    write(config, folder, sections)
    present(sections, folder)
    return sections


def check_report_folder(output: str) -> Path:
    """Return the folder to write. Raise ``ValueError`` when it holds files that no report writes."""
    folder = Path(output).expanduser()
    check_writable(folder, "output")
    if folder.is_dir() and {path.name for path in folder.iterdir()} - {*FILES, LIST}:
        raise ValueError(f"output={output} holds other files; give a new folder")
    listed_in(folder).check([name for name in FILES if name != FIGURES])
    return folder


def listed_in(folder: Path) -> Written:
    """Return the list of what reports wrote there; older versions kept none and are told by their full set of files."""
    listed = Written.into(folder)
    older = not listed.file.exists() and all((folder / name).exists() for name in FILES)
    return (
        replace(listed, known=frozenset([*FILES, *(f"{FIGURES}/{p.name}" for p in (folder / FIGURES).glob("*"))]))
        if older
        else listed
    )


def read_runs(config: ReportConfig) -> list[tuple[str | None, RunResult]]:
    """Return every run once, with the name given for its entry. Raise ``ValueError`` naming one that cannot be read."""
    from sharcs_pl.analysis.comparison.runs import find_runs, read_run

    names: Sequence[str | None] = config.names or [None] * len(config.runs)
    found: dict[Path, tuple[str | None, Path]] = {}
    for name, entry in zip(names, config.runs, strict=True):
        for path in find_runs(entry, config.unfinished == "skip"):
            found.setdefault(path.resolve(), (name, path))
    if not found:
        raise ValueError("runs: none of them has results yet; let one finish")
    return [(name, read_run(path)) for name, path in found.values()]


def check_tasks(config: ReportConfig, runs: Sequence[RunResult]) -> None:
    """Raise ``ValueError`` for a run of another task than ``only_task=``."""
    for run in runs:
        if config.only_task is not None and run.task != config.only_task:
            raise ValueError(
                f"runs: {run.path} is of task={run.task}, which only_task={config.only_task} excludes; leave it out"
            )


def check_figures() -> None:
    """Raise ``ValueError`` without matplotlib, since figures are what a report is for."""
    from sharcs_pl.analysis.figures.style import have_matplotlib

    if not have_matplotlib():
        raise ValueError("sharcs report draws figures: pip install 'sharcs-pl[plots]'")


def compare(config: ReportConfig, found: Sequence[tuple[str | None, RunResult]]) -> list[TaskComparison]:
    """Return a comparison per task, in the order in which the tasks come."""
    from sharcs_pl.analysis.comparison.methods import compare_methods, group_runs

    tasks = list(dict.fromkeys(run.task for _, run in found))
    groups = [group_runs([(name, run) for name, run in found if run.task == task]) for task in tasks]
    return [compare_methods(methods, config.budget, config.draws, config.seed) for methods in groups]


def write(config: ReportConfig, folder: Path, comparisons: Sequence[TaskComparison]) -> None:
    """Write the page, the tables and the figures, each whole."""
    from sharcs_pl.analysis.comparison.figures import draw_comparison, figure_names, looks_of
    from sharcs_pl.analysis.comparison.page import page
    from sharcs_pl.analysis.comparison.tables import latex, markdown, points_csv, summary_csv

    figures = [f"{FIGURES}/{name}" for found in comparisons for name in figure_names(found)]
    listed_in(folder).claim([*(name for name in FILES if name != FIGURES), *figures])
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    looks = looks_of(comparisons)
    sections = [(found, draw_comparison(found, looks, folder / FIGURES)) for found in comparisons]
    write_text(folder / PAGE, page(sections, config.title))
    write_text(folder / "report.md", markdown(sections, config.title))
    write_text(folder / "report.tex", latex(sections))
    write_text(folder / "summary.csv", summary_csv(sections))
    write_text(folder / "points.csv", points_csv(sections))


def present(comparisons: Sequence[TaskComparison], folder: Path) -> None:
    """Print a short table per task, and where the rest is."""
    from rich.table import Table

    from sharcs_pl.analysis.comparison.tables import different_texts, summary
    from sharcs_pl.core.screen import Screen
    from sharcs_pl.pipeline.console import display_path

    console = Screen(width=None if sys.stdout.isatty() else 120)
    for found in comparisons:
        grid = summary(found)
        table = Table(title=grid.title)
        for name in grid.head:
            table.add_column(name, justify="left" if name == "method" else "right")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)
        apart = different_texts(found)
        if apart:
            console.print(apart, soft_wrap=True)
    console.print(f"the page: {display_path((folder / PAGE).absolute())}", soft_wrap=True)


if __name__ == "__main__":
    main()
