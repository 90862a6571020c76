"""The output that the user sees of the libraries below, and the form of paths."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOGGERS = ("lightning.pytorch", "lightning.fabric")


def display_path(path: Path) -> str:
    """Return the path as a user would write it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def silence_libraries() -> None:
    """Keep off the screen what a user cannot act on: greetings, tips and shard counters of the libraries."""
    import logging

    import lightning  # noqa: F401  (sets the level of its logger when imported)
    from transformers.utils.logging import disable_progress_bar

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)\..*")
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # Lightning's, on any login node
    disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@contextmanager
def left_as_found() -> Iterator[None]:
    """Give the process back as it was found, whatever is trained or answered in between: random numbers, environment,
    warnings, levels of loggers, progress bars, and the kernels that torch chooses among."""
    import logging

    import lightning  # noqa: F401  (as above)
    import numpy as np
    import torch
    from transformers.utils import logging as told

    environment, levels = dict(os.environ), {name: logging.getLogger(name).level for name in _LOGGERS}
    numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    exact = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    searches, bars = torch.backends.cudnn.benchmark, told.is_progress_bar_enabled()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_rng_state(numbers[2])
        if on_devices is not None:
            torch.cuda.set_rng_state_all(on_devices)
        torch.use_deterministic_algorithms(exact[0], warn_only=exact[1])
        torch.backends.cudnn.benchmark = searches
        if bars:
            told.enable_progress_bar()
