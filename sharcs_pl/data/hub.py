"""Datasets of the Hugging Face hub, of its cache, or of a local dataset folder.

Without a network a dataset comes from the cache or raises an error at once, not after a minute of retries.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sharcs_pl.core.hub import why_unreachable
from sharcs_pl.data.files import short_name

if TYPE_CHECKING:
    from datasets import Dataset

REPOSITORY = "nyu-mll/glue"


def load_hub(config: str | None, split: str, repository: str | None = None) -> Dataset:
    """Load a split of a repository or of a local dataset folder, by default of GLUE.

    Raise `ValueError` with the key of a local alternative if neither the hub nor its cache has it.
    """
    import datasets

    folder = Path(repository or REPOSITORY).expanduser()
    local = os.path.isdir(folder)
    path = str(folder) if local else repository or REPOSITORY
    unreachable = None if local else _unreachable(path)
    try:
        with _offline(unreachable is not None):
            found = datasets.load_dataset(path, config, split=split)
    except Exception as error:
        reason = unreachable if unreachable and isinstance(error, ConnectionError) else error
        raise ValueError(_describe(repository, config, split, reason)) from error
    assert isinstance(found, datasets.Dataset)
    return found


def _describe(repository: str | None, config: str | None, split: str, reason: Exception) -> str:
    where = short_name(f"task.hub={repository}" if repository else REPOSITORY, 80)
    which = ", ".join(name for name in (config, split) if name)
    why = short_name(" ".join(str(reason).split()) or type(reason).__name__, 120).rstrip(".")
    key = "task.train=<file>" if repository else "task.data_dir=<folder with the official TSV files>"
    return f"{where} ({which}) cannot be loaded: {why}. Local data needs no hub: {key}"


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Make `datasets` use only its cache, because it takes more than 20 s to notice a missing network."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _unreachable(repository: str) -> ConnectionError | None:
    """Return an error with the reason if the hub does not answer, else None."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        why = why_unreachable(repository, "dataset")
    except HfHubHTTPError:
        return None  # the hub answers with an error, which loading then raises
    return None if why is None else ConnectionError(why)
