"""Shares that are split off the samples of a file, stratified and drawn by a seed.

Legend: `S` samples, `T` distinct texts, `C` labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sharcs_pl.data.spec import Examples

_GOLDEN = (5**0.5 - 1) / 2  # fractional parts of its multiples are evenly spread, for any number of them


def split_share(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Split off a random share of the samples by seed, and return the rest and the share, both in their old order.

    Samples with equal texts stay together, whatever their labels, and count to the class or labels of the first one.
    Every class gives its share, at least one text if it has two, but never all of them; so does every label of texts
    that have any number of them, as far as their other labels let it.
    """
    generator = np.random.default_rng(seed)
    firsts, text_of = _distinct(examples.texts)
    sizes, labels = np.bincount(text_of, minlength=len(firsts)), examples.labels[firsts]
    found = (_of_labels if labels.ndim == 2 else _of_classes)(labels, sizes, share, generator)
    chosen = np.isin(text_of, found)
    if chosen.all() or not chosen.any():
        side = "train on" if chosen.all() else "evaluate on"
        raise ValueError(f"task.dev={share:g}: of {len(examples):,} rows this leaves none to {side}")
    return examples.select(np.flatnonzero(~chosen)), examples.select(np.flatnonzero(chosen))


def _distinct(texts: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first position of each distinct text [T], and the index of every sample's text [S]."""
    numbers: dict[tuple[str, ...], int] = {}
    text_of = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
    return np.unique(text_of, return_index=True)[1], text_of


def _fitting(texts: np.ndarray, sizes: np.ndarray, wanted: int) -> np.ndarray:
    """Return `texts` in order with at most `wanted` samples together, skipping texts that exceed it. If none fits,
    return the text with the fewest samples of two or more texts."""
    found, room = [], wanted
    for text in texts:
        if sizes[text] <= room:
            found.append(text)
            room -= sizes[text]
    if not found and wanted and len(texts) > 1:
        found = [texts[np.argmin(sizes[texts])]]
    return np.array(found, dtype=np.int64)


def take_share(examples: Examples, key: str, share: float, seed: int) -> tuple[Examples, Examples]:
    """Call `split_share` with errors that name `task.<key>`."""
    try:
        return split_share(examples, share, seed)
    except ValueError as error:
        raise ValueError(str(error).replace("task.dev=", f"task.{key}=")) from error


def _of_classes(labels: np.ndarray, sizes: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return the chosen texts by their classes, int [T]; a regression is one group."""
    found = [np.empty(0, np.int64)]
    for group in _groups(labels):
        size = int(sizes[group].sum())
        wanted = round(share * size) if labels.dtype.kind == "f" else _share_of(share, size)
        found.append(_fitting(generator.permutation(group), sizes, wanted))
    return np.concatenate(found)


def _of_labels(labels: np.ndarray, sizes: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return the chosen texts by their labels [T, C], the rarest label first.

    A label adds what the rarer ones have not chosen of its share, from the texts that have none of them. Texts without
    a label are a group of their own. No label gives its last text.
    """
    has = np.column_stack([labels > 0, (labels <= 0).all(1)])
    left, chosen, open_ = has.sum(0), np.zeros(len(has), bool), np.ones(len(has), bool)
    for label in np.argsort(sizes @ has, kind="stable"):
        group = np.flatnonzero(has[:, label])
        room = _share_of(share, int(sizes[group].sum())) - int(sizes[group[chosen[group]]].sum())
        texts = _spread(generator.permutation(group[open_[group]]), has)
        free = [text for text in texts if (left[has[text]] > 1).all()]
        if free and not chosen[group].any():
            room = max(room, int(sizes[free].min()))
        for text in free:
            if sizes[text] <= room and (left[has[text]] > 1).all():
                chosen[text], room = True, room - sizes[text]
                left -= has[text]
        open_[group] = False
    return np.flatnonzero(chosen)


def _spread(texts: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Return shuffled texts in an order whose first ones, however many, have every combination of labels in about the
    proportion of all."""
    alike = texts[np.lexsort(has[texts].T)]
    return alike[np.argsort(np.arange(len(alike)) * _GOLDEN % 1, kind="stable")]


def _share_of(share: float, size: int) -> int:
    """Return how many of the `size` samples of a class a share is: one at least, and not all."""
    return min(max(round(share * size), 1), size - 1)


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """Return the positions of each class, or all positions as one group for a regression."""
    if labels.dtype.kind == "f":
        return [np.arange(len(labels))]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
