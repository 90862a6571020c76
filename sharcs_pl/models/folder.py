"""Checks that an encoder's folder has a whole config, tokenizer and weights, without loading them.

Loads no torch.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sharcs_pl.core.finite import read_json
from sharcs_pl.core.text import check_plain_name
from sharcs_pl.models.legacy import check_legacy, is_legacy

SENTENCEPIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "spm.model")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", *SENTENCEPIECE_FILES)
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
_SHARD = re.compile(r"-\d+-of-\d+\.\w+$")
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``config.json``. Raise ``ValueError`` if the folder, the file or its contents are missing."""
    if not folder.is_dir():
        raise ValueError(f"encoder.pretrained={folder} is not a folder; give a folder with a checkpoint, or a hub id")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"encoder.pretrained={folder} has no config.json; give a folder written by save_pretrained")
    return read_json(path)


def check_folder(folder: Path) -> int:
    """Return the bytes of a folder's weights. Raise ``ValueError`` if tokenizer or weights are missing or damaged."""
    found = {name for name in TOKENIZER_FILES if (folder / name).is_file()}
    if not found:
        names = ", ".join(TOKENIZER_FILES[:3])
        raise ValueError(f"encoder.pretrained={folder} has no tokenizer ({names}, …); save it there beside the weights")
    if found <= set(SENTENCEPIECE_FILES) and not find_spec("sentencepiece"):
        raise ValueError(
            f"encoder.pretrained={folder} has its tokenizer as {found.pop()} only: pip install sentencepiece protobuf"
        )
    files = weight_files(folder)
    for path in files:
        check_weights(path)
    return sum(path.stat().st_size for path in files)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder's weights by transformers' order of preference. Raise ``ValueError`` if there are
    none, or if one of several is missing."""
    for whole, index in ((WEIGHTS, WEIGHTS_INDEX), (PICKLED_WEIGHTS, PICKLED_INDEX)):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            return _shards(folder, index)
    others = [path.name for kind in ("model*.safetensors", "pytorch_model*.bin") for path in sorted(folder.glob(kind))]
    if others and _SHARD.search(others[0]):
        raise ValueError(f"encoder.pretrained={folder} has {others[0]} but not the list of its parts, {WEIGHTS_INDEX}")
    if others:
        whole = WEIGHTS if others[0].endswith(".safetensors") else PICKLED_WEIGHTS
        raise ValueError(
            f"encoder.pretrained={folder} has a variant of its weights only, {others[0]}; call it {whole} to use it"
        )
    raise ValueError(
        f"encoder.pretrained={folder} has no weights ({WEIGHTS}); give a folder written by save_pretrained"
    )


def _shards(folder: Path, index: str) -> list[Path]:
    listed = read_json(folder / index).get("weight_map")
    names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    for name in names:
        check_plain_name(f"{folder / index}: a part", name)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise ValueError(f"encoder.pretrained={folder} lacks {missing[0] if missing else 'every shard'} of its weights")
    return [folder / name for name in names]


def check_weights(path: Path, remedy: str = "download it again") -> None:
    """Raise ``ValueError`` unless a file of weights is whole. It may be safetensors or any pickle format of torch."""
    if path.suffix == ".safetensors":
        check_safetensors(path, remedy)
    elif is_legacy(path):
        check_legacy(path, remedy)
    else:
        check_zip(path, remedy)


def check_safetensors(path: Path, remedy: str = "download it again") -> None:
    """Raise ``ValueError``, ending with ``remedy``, unless the header is readable and matches the file's length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise ValueError(f"{path} is damaged: its header is not that of a safetensors file; {remedy}")
        header = file.read(length)
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
        whole = all(math.prod(entry["shape"]) >= 0 for entry in tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: its header cannot be read; {remedy}") from error
    if size != expected or not whole:
        raise ValueError(f"{path} is damaged: {size:,} bytes where its header says {expected:,}; {remedy}")


def check_zip(path: Path, remedy: str) -> None:
    """Raise ``ValueError`` unless a torch checkpoint is a whole archive. ``remedy`` is advice in the message."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    if broken:
        raise ValueError(f"{path} is damaged (at {broken}); {remedy}")
