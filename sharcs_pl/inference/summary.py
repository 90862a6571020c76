"""The summary of a prediction: its rows, the widths that they ran on, and their cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.flops import CostModel
from sharcs_pl.inference.journal import Record

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Summary:
    """Counts of a prediction.

    `rows` of the input, `rejected` among them; `shares`: of the answered ones per rung, by its width. `macs`: mean
    multiply-adds of an answer, `macs_fraction`: of those of the stock model. `texts_per_second` of this session, from
    the first text to the last; None where it answered none.
    """

    rows: int
    rejected: int
    shares: dict[str, float]
    macs: float
    macs_fraction: float
    texts_per_second: float | None


class RunningSummary:
    """A count of finished rows. `cost`: the model's; `longest`: tokens at which texts are cut; `rule`: the rule in
    use."""

    def __init__(self, cost: CostModel, longest: int, rule: DecisionRule) -> None:
        # What a text cost tells its length, and so what the stock model would have cost.
        self._dense = dense_by_macs(cost, longest, rule)
        self._widths = cost.ladder.labels()
        self._counts = [0] * len(self._widths)
        self._macs = self._dense_macs = self._rejected = 0
        self._before, self._start = 0, time.perf_counter()

    def add(self, record: Record) -> None:
        """Count a finished row, as the journal holds it."""
        if isinstance(record, list):
            self._rejected += 1
            return
        self._counts[record["rung"]] += 1
        self._macs += record["macs"]
        self._dense_macs += self._dense[record["rung"]][record["macs"]]

    def start(self) -> None:
        """Begin a session: rows added so far are an earlier one's, and time runs from now."""
        self._before, self._start = sum(self._counts), time.perf_counter()

    def summary(self) -> Summary:
        """Return the counts so far."""
        answered, seconds = sum(self._counts), time.perf_counter() - self._start
        here = answered - self._before
        return Summary(
            rows=answered + self._rejected,
            rejected=self._rejected,
            shares={width: count / max(answered, 1) for width, count in zip(self._widths, self._counts, strict=True)},
            macs=self._macs / max(answered, 1),
            macs_fraction=self._dense_macs and self._macs / self._dense_macs,
            texts_per_second=here / seconds if here else None,
        )


def dense_by_macs(cost: CostModel, longest: int, rule: DecisionRule) -> list[dict[int, int]]:
    """Return, for each rung at which a text may end, the stock model's MACs by those that the text has spent."""
    lengths = np.arange(1, longest + 1)
    dense, tables = cost.dense_macs(lengths).tolist(), [cost.rung_macs(lengths)]
    if rule.cascades:
        starts = range(len(cost.ladder) if rule.routed else 1)
        tables = [cost.cascade_macs(lengths, first, rule.routed) for first in starts]
    found: list[dict[int, int]] = [{} for _ in cost.ladder.labels()]
    for first, table in enumerate(tables):
        for rung, macs in enumerate(table.T.tolist()):
            found[rung] |= dict(zip(macs, dense, strict=True)) if rung >= first else {}
    return found


def summary_table(name: str, summary: Summary) -> Table:
    """Return a rich table of a summary; `name` is the input's."""
    from rich.table import Table

    table = Table(title=f"{name}: {summary.rows - summary.rejected:,} texts", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("rows", f"{summary.rows:,}")
    table.add_row("rejected", f"{summary.rejected:,}")
    for width, share in summary.shares.items():
        table.add_row(f"width {width}", f"{share:.1%}")
    table.add_row("MACs/text", f"{summary.macs / 1e6:,.1f} M")
    table.add_row("of dense", f"{summary.macs_fraction:.1%}")
    if summary.texts_per_second is not None:
        table.add_row("texts/s", f"{summary.texts_per_second:,.1f}")
    return table


def combined(summaries: Sequence[Summary]) -> Summary:
    """Return the counts of several predictions by one model together."""
    answered = [each.rows - each.rejected for each in summaries]
    total = max(sum(answered), 1)

    def mean(values: Iterable[float]) -> float:
        return sum(value * count for value, count in zip(values, answered, strict=True)) / total

    widths = dict.fromkeys(width for each in summaries for width in each.shares)
    macs = mean(each.macs for each in summaries)
    dense = mean(each.macs / each.macs_fraction if each.macs_fraction else 0.0 for each in summaries)
    return Summary(
        rows=sum(each.rows for each in summaries),
        rejected=sum(each.rejected for each in summaries),
        shares={width: mean(each.shares.get(width, 0.0) for each in summaries) for width in widths},
        macs=macs,
        macs_fraction=dense and macs / dense,
        texts_per_second=None,
    )


def files_table(title: str, summaries: Mapping[str, Summary | None], total: Summary) -> Table:
    """Return a rich table with a row per file and their `total`. A file that was not answered has no summary, one that
    was answered by an earlier start no time."""
    from sharcs_pl.core.screen import new_table

    heads = ("", "texts", "rejected", *(f"at {width}" for width in total.shares), "of dense", "texts/s")
    table = new_table(title, heads, no_wrap=True, overflow="fold")
    for name, each in summaries.items():
        table.add_row(name, *(["failed"] if each is None else _cells(each, total, "earlier")))
    table.add_section()
    table.add_row("all", *_cells(total, total, ""))
    return table


def _cells(summary: Summary, total: Summary, timeless: str) -> list[str]:
    rate = summary.texts_per_second
    counts = [f"{summary.rows - summary.rejected:,}", f"{summary.rejected:,}"]
    shares = [f"{summary.shares.get(width, 0.0):.0%}" for width in total.shares]
    return [*counts, *shares, f"{summary.macs_fraction:.1%}", timeless if rate is None else f"{rate:,.1f}"]


def progress(total: int | None, done: int) -> AbstractContextManager[Callable[[], None]]:
    """Show a bar on stderr where that is a terminal; the value is to be called once per row."""
    if not sys.stderr.isatty():
        return nullcontext(lambda: None)
    return _bar(total, done)


@contextmanager
def _bar(total: int | None, done: int) -> Iterator[Callable[[], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from sharcs_pl.core.screen import Screen

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Screen(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)
