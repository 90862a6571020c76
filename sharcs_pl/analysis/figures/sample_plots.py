"""Figures of single samples: the router's reliability, and the texts it finds easiest and hardest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharcs_pl.analysis.figures.samples import (
    Names,
    Sample,
    as_good_as_top,
    calibrate,
    extremes,
    narrow_probability,
    pick,
    shorten,
    write_samples,
)
from sharcs_pl.analysis.figures.style import BLUE, GREY, VERMILION, WIDTH, canvas, rung_style
from sharcs_pl.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SAMPLES = 10  # at either end
LETTERS = 70  # of a text
MARKS: dict[bool, dict[str, Any]] = {
    True: {"marker": "o", "color": BLUE, "ms": 6, "ls": ""},
    False: {"marker": "x", "color": VERMILION, "ms": 6, "ls": "", "mew": 2},
}


def draw_calibration(predictions: Predictions, names: Names, path: Path) -> Path:
    """Draw the router's reliability: P(narrowest) against the share of samples that rung 0 answers as well as top."""
    probability = narrow_probability(predictions)
    bins = calibrate(probability, as_good_as_top(predictions, names))
    narrow = names.widths[0]
    with canvas(path, (WIDTH, 4.9)) as figure:
        axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1, label="calibrated")
        # At a share of 0 or 1 rounding may put the interval's end a hair inside: lengths must not be negative.
        spans = np.clip([bins.share - bins.low, bins.high - bins.share], 0, None)
        label = f"observed, about {int(np.median(bins.count)):,} samples each (95%)"
        axes.errorbar(bins.mean, bins.share, spans, fmt="o-", color=BLUE, ms=5, capsize=3, label=label)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share answered as well\nas at full width")
        axes.set_title(f"Does width {narrow}, narrowest of {len(names.widths)}, do as well as full width?")
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
        strip.hist(probability, list(np.linspace(0, 1, 41)), **rung_style(0))
        strip.set(xlabel=f"router's probability that width {narrow} will do", ylabel="samples")
    return path


def draw_extremes(predictions: Predictions, texts: Sequence[tuple[str, ...]], names: Names, path: Path) -> Path:
    """Draw the texts that the router finds easiest and hardest, with labels and each rung's success; a ``.tsv`` of the
    same name holds them whole."""
    groups = [pick(predictions, texts, names, places) for places in extremes(narrow_probability(predictions), SAMPLES)]
    write_samples(path.with_suffix(".tsv"), [sample for group in groups for sample in group])
    sheet = Sheet([len(group) for group in groups if group], names.widths)
    with canvas(path, sheet.size, layout=None) as figure:
        for axes, group, name in zip(sheet.axes(figure), groups, ("easiest", "hardest"), strict=False):
            sheet.fill(axes, group, f"{name} for the router")
        sheet.legend(figure, names.outcomes)
    return path


@dataclass(frozen=True)
class Sheet:
    """A page of bars with their texts, laid out in inches.

    Attributes: rows of each group; names of the widths; the rest are sizes of columns and rows.
    """

    rows: Sequence[int]
    widths: Sequence[str]
    text: float = 4.5
    bar: float = 1.5
    mark: float = 0.4
    label: float = 1.2
    row: float = 0.25
    head: float = 0.65
    foot: float = 0.5
    gap: float = 0.12

    @property
    def size(self) -> tuple[float, float]:
        """The width and height of the page."""
        width = self.text + self.bar + self.mark * len(self.widths) + self.label + 5 * self.gap
        return width, sum(self.head + self.row * rows for rows in self.rows) + self.foot - 0.2

    def axes(self, figure: Figure) -> list[Axes]:
        """Add a panel of bars per group, the first on top."""
        (width, height), found = self.size, []
        top = height + 0.2
        for rows in self.rows:
            top -= self.head + self.row * rows
            left = (self.text + 2 * self.gap) / width
            place = (left, top / height, self.bar / width, self.row * rows / height)
            found.append(figure.add_axes(place, xlim=(0, 1), ylim=(rows - 0.5, -0.5), yticks=[]))
        return found

    def fill(self, axes: Axes, samples: Sequence[Sample], title: str) -> None:
        """Draw bars, texts, marks and labels of one group under their headings."""
        left, marks = -self.text - self.gap, self.bar + self.gap
        end = marks + self.mark * len(self.widths) + self.gap
        self._head(axes, title, marks, end)
        for row, sample in enumerate(samples):
            axes.barh(row, sample.probability, 0.7, **rung_style(0))
            fit(self._write(axes, left, row, sample.line(LETTERS)), self.text)
            fit(self._write(axes, end, row, sample.label), self.label)
            for rung, ok in enumerate(sample.right.values()):
                x = (marks + self.mark * (rung + 0.5)) / self.bar
                axes.plot(x, row, transform=axes.get_yaxis_transform(), clip_on=False, **MARKS[ok])

    def legend(self, figure: Figure, outcomes: tuple[str, str]) -> None:
        """Explain the marks at the foot of the page."""
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], **MARKS[True]), Line2D([], [], **MARKS[False])]
        figure.legend(handles, list(outcomes), loc="lower right", ncols=2)

    def _head(self, axes: Axes, title: str, marks: float, end: float) -> None:
        self._write(axes, -self.text - self.gap, -1, title, weight="bold")
        self._write(axes, end, -1, "label")
        self._write(axes, 0, -1, f"P(width {self.widths[0]})")
        for rung, name in enumerate(self.widths):
            self._write(axes, marks + self.mark * (rung + 0.5), -1, name, ha="center")

    def _write(self, axes: Axes, inches: float, row: float, text: str, **style: Any) -> Text:
        """Write text at a distance from the bars' left edge."""
        place = axes.get_yaxis_transform()
        return axes.text(inches / self.bar, row, text, transform=place, va="center_baseline", fontsize=9, **style)


def fit(text: Text, inches: float) -> None:
    """Shorten text that is wider than its column; wide letters need more room than most."""
    figure = text.get_figure(root=True)
    assert figure is not None
    while (wide := text.get_window_extent().width / figure.dpi) > inches:
        letters = text.get_text()
        text.set_text(shorten(letters, min(len(letters) - 1, int(len(letters) * inches / wide))))
