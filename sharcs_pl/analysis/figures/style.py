"""The style of figures: colours that colour-blind readers tell apart, hatches and markers that survive a grey printer.

matplotlib is the extra ``[plots]``. It is imported when a figure is drawn, never with this module, and never pyplot.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.core.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#666666"
RUNGS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", VERMILION, "#F0E442", GREY)
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "----", "++++", "||||")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (8, 2)))
WIDTH = 5.4  # inches: a column of text, at the font size below
SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a "$" in a text or a class name is a dollar
    "text.usetex": False,
    "figure.dpi": 160,
    "savefig.dpi": "figure",
}


def have_matplotlib() -> bool:
    """Return True if the extra is installed."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def canvas(
    path: Path,
    size: tuple[float, float],
    layout: Any = "constrained",
    formats: Sequence[str] = ("png",),
    settings: dict[Any, Any] = SETTINGS,
) -> Iterator[Figure]:
    """Open a figure of ``size`` inches in the house style; on leaving, it is whole at ``path`` or not there, in every
    format under its suffix.

    A character the font lacks is drawn as a box, without a warning.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasAgg(figure)  # whose one renderer measures every text; without it each text makes its own
        yield figure
        for kind in formats:
            with atomic_file(path.with_suffix(f".{kind}")) as part:
                figure.savefig(part, format=kind, metadata={"Date": None} if kind == "svg" else None)


def colour(rung: int) -> str:
    """Return a rung's colour; after eight rungs colours repeat."""
    return RUNGS[rung % len(RUNGS)]


def rung_style(rung: int) -> dict[str, Any]:
    """Return the style of a rung's bars: its colour under a white hatch of its own."""
    hatch = HATCHES[rung % len(HATCHES)]
    return {"facecolor": colour(rung), "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}


def outline(rung: int, filled: bool) -> dict[str, Any]:
    """Return a rung's outline among several in a histogram: its colour, its own dash pattern, perhaps a faint fill."""
    return {
        "fill": filled,
        "facecolor": (colour(rung), 0.25),
        "edgecolor": colour(rung),
        "linestyle": DASHES[rung % len(DASHES)],
        "linewidth": 1.2,
    }


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Put one legend under the whole figure, where it covers nothing."""
    _legend(figure, axes, columns, "outside lower center")


def legend_above(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Put one legend over the whole figure, where a figure has a label of its own at the bottom."""
    _legend(figure, axes, columns, "outside upper center")


def _legend(figure: Figure, axes: Axes, columns: int, place: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc=place, ncols=min(columns, len(labels)))
