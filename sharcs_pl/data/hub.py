"""GLUE from the Hugging Face hub or its cache; without either an answer at once, not after a minute of retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

REPOSITORY = "nyu-mll/glue"
_PROBE_SECONDS = 5.0


def load_hub(config: str, split: str) -> Dataset:
    """One split. Raises `ValueError` naming `task.data_dir` when neither the hub nor its cache can give it."""
    import datasets

    try:
        _probe()
        found = datasets.load_dataset(REPOSITORY, config, split=split)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{REPOSITORY} ({config}, {split}) cannot be loaded from the Hugging Face hub: {reason}. "
            "Set task.data_dir to a folder with the official TSV files, or HF_HUB_OFFLINE=1 where the hub's cache "
            "already holds it"
        ) from error
    assert isinstance(found, datasets.Dataset)
    return found


def _probe() -> None:
    """Ask the hub once, without retries: `load_dataset` takes more than 20 s to notice that there is no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(REPOSITORY, timeout=_PROBE_SECONDS)
    except (OfflineModeIsEnabled, HfHubHTTPError):
        return  # offline on purpose: the cache decides; or the hub answers, if only to complain: let it say so itself
