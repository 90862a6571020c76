"""The texts that a trained model was trained on, among those that it is to be evaluated on."""

from __future__ import annotations

import warnings

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.seen import FILE as SEEN
from sharcs_pl.data.seen import count_seen, load_seen
from sharcs_pl.data.spec import UNKNOWN_LABEL, Examples
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.runs.files import SEEN_TEXTS


def trained_on(source: TrainedModel, examples: Examples) -> int:
    """Return the number of texts that the model was trained on; 0 where its training texts were not kept."""
    beside, own = source.weights / SEEN, source.home / SEEN_TEXTS
    path = beside if beside.is_file() else own
    return count_seen(load_seen(path), examples.texts) if path.is_file() else 0


def warn_of_seen(source: TrainedModel, examples: dict[str, Examples]) -> int:
    """Warn of labelled texts that the model was trained on; return their number in the first split."""
    counts = []
    for split, found in examples.items():
        counts.append(trained_on(source, found) if (found.labels != UNKNOWN_LABEL).any() else 0)
        if counts[-1]:
            told = (
                f"{counts[-1]:,} of {len(found):,} {split} texts were trained on: the results look better than they are"
            )
            warnings.warn(told, DataWarning, stacklevel=3)
    return counts[0]
