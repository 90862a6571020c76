"""The router's view of single samples: how far its probabilities hold, and the texts it finds easy and hard.

Legend: S samples, W rungs. P(narrowest) is the sigmoid of the router's first logit: the chance that rung 0 suits.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sharcs_pl.core.files import atomic_file
from sharcs_pl.evaluation.predictions import Predictions

BINS = 10
AS_GOOD = 0.05  # of the label range: what rung 0 of a regression may lose to the top rung
CLOSE = 0.1  # of the label range: what counts as right in regression
JOIN = " | "  # between the texts of a pair
Z = 1.959964  # normal quantile of a 95% interval


@dataclass(frozen=True)
class Names:
    """The names of rungs and labels: ``widths`` narrow first; ``labels`` the classes, None for regression, whose least
    and greatest score is ``label_range``."""

    widths: Sequence[str]
    labels: Sequence[str] | None = None
    label_range: Sequence[float] | None = None

    def label(self, value: float | Sequence[float]) -> str:
        """Return a label as the reader knows it."""
        if isinstance(value, Sequence):
            return ", ".join(name for name, given in zip(self.labels or (), value, strict=True) if given > 0)
        return f"{value:g}" if self.labels is None else self.labels[int(value)]

    @property
    def outcomes(self) -> tuple[str, str]:
        """Return the words for a ``right`` answer and for any other."""
        if self.labels is None:
            return "within a tenth of the label range", "farther off"
        return "right at that width", "wrong"

    @property
    def span(self) -> float:
        """The length of the label range."""
        return self.label_range[1] - self.label_range[0] if self.label_range else 1.0


def narrow_probability(predictions: Predictions) -> np.ndarray:
    """Return P(narrowest) of each sample, float64 [S]."""
    return torch.sigmoid(predictions.router_logits[:, 0].double()).numpy()


def right(predictions: Predictions, names: Names) -> np.ndarray:
    """Return True where a rung answers a sample rightly, bool [S, W]; regressions within a tenth of the label range."""
    if names.labels is None:
        return _errors(predictions) <= CLOSE * names.span
    return (predictions.kind.quality(predictions.scores, predictions.labels) >= 1).numpy()


def as_good_as_top(predictions: Predictions, names: Names) -> np.ndarray:
    """Return True where rung 0 answers a sample as well as the top rung, bool [S].

    A class is as good if it is right or the top rung's own answer (both are wrong in the same way). A regression is as
    good if its error exceeds the top rung's by at most 5% of the label range.
    """
    if names.labels is None:
        errors = _errors(predictions)
        return errors[:, 0] <= errors[:, -1] + AS_GOOD * names.span
    first, top = predictions.scores[:, 0], predictions.scores[:, -1]
    return ((predictions.kind.quality(first, predictions.labels) >= 1) | predictions.kind.alike(first, top)).numpy()


def _errors(predictions: Predictions) -> np.ndarray:
    """Return |prediction - label| of a regression, [S, W]."""
    return (predictions.logits[..., 0].double() - predictions.labels.double()[:, None]).abs().numpy()


@dataclass(frozen=True)
class Calibration:
    """Bins of samples by probability: mean, observed share with a 95% interval, and count, each [bins]."""

    mean: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def calibrate(probability: np.ndarray, outcome: np.ndarray, bins: int = BINS) -> Calibration:
    """Return bins of equal counts; equal probabilities share a bin, so that ties leave fewer and fuller ones.

    Args:
        probability: [S].
        outcome: bool [S].
        bins: the greatest number of bins.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, probability, side="right")
    groups = [place == i for i in np.unique(place)]
    count = np.array([group.sum() for group in groups])
    share = np.array([outcome[group].mean() for group in groups])
    low, high = wilson(share, count)
    return Calibration(np.array([probability[group].mean() for group in groups]), share, low, high, count)


def wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's 95% interval of a binomial share observed over ``count`` samples."""
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return centre - half, centre + half


def extremes(probability: np.ndarray, most: int) -> tuple[list[int], list[int]]:
    """Return the places of the samples of highest and of lowest probability, each in falling order; none is in both."""
    order = np.argsort(-probability, kind="stable").tolist()
    highest = order[: min(most, math.ceil(len(order) / 2))]
    return highest, order[len(highest) :][-most:]


@dataclass(frozen=True)
class Sample:
    """A sample as the reader sees it; ``width`` is the router's choice, ``right`` each width's success."""

    uid: int
    probability: float
    width: str
    label: str
    right: dict[str, bool]
    texts: tuple[str, ...]

    def line(self, letters: int) -> str:
        """Return the text in one short line; in a pair, one gets the room that the other does not need."""
        plain = [" ".join(text.split()) or "(empty)" for text in self.texts]
        if len(plain) == 1:
            return shorten(plain[0], letters)
        room = letters - len(JOIN)
        first = shorten(plain[0], max(room // 2, room - len(plain[1])))
        return first + JOIN + shorten(plain[1], room - len(first))


def shorten(text: str, letters: int) -> str:
    """Return at most ``letters`` letters, the last one an ellipsis where some were cut."""
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def pick(
    predictions: Predictions, texts: Sequence[tuple[str, ...]], names: Names, places: Sequence[int]
) -> list[Sample]:
    """Return the samples at some places of the predictions; ``texts`` by uid."""
    probability, marks = narrow_probability(predictions), right(predictions, names)
    uids, labels = predictions.uids.tolist(), predictions.labels.tolist()
    return [
        Sample(
            uid=uids[i],
            probability=float(probability[i]),
            width=names.widths[int(predictions.rungs[i])],
            label=names.label(labels[i]),
            right=dict(zip(names.widths, marks[i].tolist(), strict=True)),
            texts=tuple(texts[uids[i]]),
        )
        for i in places
    ]


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write tab-separated rows, every text in quotes: ``csv`` reads tabs and line breaks back unchanged."""
    widths, columns = list(samples[0].right), ["text", "text_pair"][: len(samples[0].texts)]
    with atomic_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["uid", "p_narrowest", "width", "label", *(f"right_{width}" for width in widths), *columns])
        # Quoting only where it seems needed, csv overlooks a lone carriage return.
        quoted = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for sample in samples:
            marks = [int(sample.right[width]) for width in widths]
            quoted.writerow(
                [sample.uid, round(sample.probability, 6), sample.width, sample.label, *marks, *sample.texts]
            )
