"""The report as one page for a browser that asks for nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from string import Template

from sharcs_pl.analysis.comparison.methods import TaskComparison
from sharcs_pl.analysis.comparison.tables import Grid, different_texts, format_spread, grids, notes


def page(sections: Sequence[tuple[TaskComparison, Sequence[Path]]], title: str) -> str:
    """Return the report as one HTML file: images inside, and a policy that forbids every request."""
    links = "".join(f'<a href="#{html.escape(f.task)}">{html.escape(f.task)}</a>' for f, _ in sections)
    nav = f"<nav>{links}</nav>" if len(sections) > 1 else ""
    body = "".join(_section(found, figures) for found, figures in sections)
    return _PAGE.substitute(title=html.escape(title), nav=nav, body=body)


def _section(found: TaskComparison, figures: Sequence[Path]) -> str:
    images = "".join(_image(path, found) for path in figures if path.suffix == ".svg")
    tables = "".join(_table(grid) for grid in grids(found))
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes(found) if note != different_texts(found))
    apart = different_texts(found)
    lead = html.escape(_lead(found)) + (f"</p><p>{html.escape(apart)}" if apart else "")
    return (
        f'<section id="{html.escape(found.task)}"><h2>{html.escape(found.task)}</h2><p>{lead}</p>{images}{tables}'
        f"<details><summary>How to read this</summary><ul>{listed}</ul></details></section>"
    )


def _lead(found: TaskComparison) -> str:
    """Return a sentence about the best method at the budget."""
    first = found.standings[0]
    dense = next((row.value.mean for row in found.standings if row.method is found.dense), None)
    beside = f"; dense reaches {dense:.4f}" if dense is not None else ""
    if first.at_budget is None:
        cheapest = min(fmean(run.routed.macs for run in row.method.runs) for row in found.standings)
        return (
            f"No method runs at {found.budget:g}x MACs; the cheapest takes {cheapest / found.dense_macs:.2f}{beside}."
        )
    value = format_spread(first.at_budget)
    return f"At {found.budget:g}x MACs, {first.method.name} leads with {found.metric} {value}{beside}."


def _image(path: Path, found: TaskComparison) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    what = "each method beside its controls" if path.stem.endswith("_controls") else "every method"
    alt = html.escape(f"{found.task}: {found.metric} against multiply-adds, {what}")
    return f'<figure><img alt="{alt}" src="data:image/svg+xml;base64,{data}"></figure>'


def _table(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in grid.head)
    rows = "".join(_table_row(grid, number) for number in range(len(grid.rows)))
    caption = html.escape(grid.title)
    return (
        f'<div class="wide" tabindex="0"><table><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _table_row(grid: Grid, number: int) -> str:
    marks = [' class="best"' if (number, column) in grid.best else "" for column in range(len(grid.head))]
    cells = zip(marks, grid.rows[number], strict=True)
    return f"<tr>{''.join(f'<td{mark}>{html.escape(cell)}</td>' for mark, cell in cells)}</tr>"


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #1a1a1a; --line: #d0d0d0; --pale: #f5f6f8; --mark: #0a5a9c; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem clamp(0.8rem, 3vw, 2rem); color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 0.5rem; } h2 { font-size: 1.3rem; margin: 2rem 0 0.3rem; }
nav a { margin-right: 1rem; color: var(--mark); }
figure { margin: 1rem 0; } img { display: block; width: 100%; max-width: 52rem; height: auto; margin: 0 auto; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; width: 100%; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.4rem; }
th, td { padding: 0.35rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
td { white-space: nowrap; } th { vertical-align: bottom; background: var(--pale); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th:first-child { background: var(--pale); }
td:first-child { white-space: normal; min-width: min(13rem, 45vw); overflow-wrap: break-word; }
td.best { font-weight: 700; text-decoration: underline; text-underline-offset: 3px; }
details { font-size: 0.9rem; } summary { cursor: pointer; color: var(--mark); } li { margin: 0.3rem 0; }
@media print { body { max-width: none; font-size: 10pt; } .wide { overflow: visible; } td { white-space: normal; }
  th:first-child, td:first-child { position: static; } figure, table { break-inside: avoid; } nav { display: none; } }
</style>
</head>
<body>
<h1>$title</h1>
$nav
$body
</body>
</html>
""")
