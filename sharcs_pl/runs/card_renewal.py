"""The model card after a change of the model's config."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.inference.trained import CARD
from sharcs_pl.runs.card import is_own_card, write_card


@contextmanager
def renewed_card(folder: Path, what: str) -> Iterator[None]:
    """Write the folder's card anew after a block that changes the model's config. Warn where the card was changed by
    hand; `what` names the news that it lacks."""
    renews = is_own_card(folder)
    yield
    if renews:
        write_card(folder)
    else:
        told = f"{folder / CARD} was changed by hand and stays as it is; remove it to have {what} written into it"
        warnings.warn(told, DataWarning, stacklevel=3)
