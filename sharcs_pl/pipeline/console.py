"""The output that the user sees of the libraries below, and the form of paths."""

from __future__ import annotations

import os
import warnings
from pathlib import Path


def display_path(path: Path) -> str:
    """Return the path as a user would write it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def silence_libraries() -> None:
    """Keep off the screen what a user cannot act on: greetings, tips and shard counters of the libraries."""
    import logging

    import lightning  # noqa: F401  (sets the level of its logger when imported)
    from transformers.utils.logging import disable_progress_bar

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)\..*")
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # Lightning's, on any login node
    disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
