"""8-byte hashes of the training texts of a model, to count how many other texts it has seen.

They are kept in the run directory and in the saved model's folder. 400,000 texts take 3 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sharcs_pl.core.files import atomic_file

FILE = "train_texts.npy"
_BYTES = 8  # a million texts have a collision with a probability of about 10^-7


def hash_texts(texts: Iterable[tuple[str, ...]]) -> np.ndarray:
    """Return a hash of the one or two texts of each sample, uint64 [S], which is equal on every machine."""
    return np.fromiter((int.from_bytes(_digest(text), "little") for text in texts), np.uint64)


def _digest(texts: tuple[str, ...]) -> bytes:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    sizes = ",".join(str(len(text)) for text in encoded)
    return hashlib.blake2b(b"\0".join([sizes.encode(), *encoded]), digest_size=_BYTES).digest()


def save_seen(path: Path, hashes: np.ndarray) -> None:
    """Write the hashes of the training texts, sorted and without duplicates."""
    with atomic_file(path) as part, part.open("wb") as file:
        np.save(file, np.unique(hashes), allow_pickle=False)


def load_seen(path: Path) -> np.ndarray:
    """Return saved hashes in ascending order. Raise ``ValueError`` naming the file if it is damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged, which holds hashes of the training texts; remove it") from error
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ValueError(f"{path} holds no hashes of training texts; remove it")
    return found


def count_seen(seen: np.ndarray, texts: Iterable[tuple[str, ...]]) -> int:
    """Return the number of samples whose texts are among the seen hashes."""
    return int(np.isin(hash_texts(texts), seen).sum())
