"""A check that files of weights in the format of torch before 1.6, five pickles and the raw numbers, are whole.

Nothing in a file is executed, because an inert stand-in replaces every object that the pickles name. ``torch.load``,
which refuses everything but tensors, does the loading. Loads no torch.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

_MAGIC = 0x1950A86A20F9469CFC6C
_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle: the magic number, in protocol 2
_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8,
}  # fmt: skip


class _StandIn(dict[Any, Any]):
    """An inert replacement of every class or function that a pickle names, which accepts all operations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def append(self, entry: Any) -> None: ...

    def extend(self, entries: Any) -> None: ...


class _Reader(pickle.Unpickler):
    """An unpickler that records the storages of a pickle and creates none of its objects."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.item_bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the name of a storage type, and a stand-in for everything else."""
        return name if module == "torch" and name.endswith("Storage") else _StandIn

    def persistent_load(self, pid: Any) -> Any:
        """Record a reference to a storage, with its type and the key of its numbers."""
        _, kind, key, *_ = pid
        self.item_bytes[str(key)] = _BYTES[str(kind).removesuffix("Storage")]
        return None


def is_legacy(path: Path) -> bool:
    """Return True if the file begins like the files of torch before 1.6."""
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def check_legacy(path: Path, remedy: str) -> None:
    """Raise ``ValueError``, ending with ``remedy``, unless the file holds the numbers of all storages and no more."""
    try:
        with path.open("rb") as file:
            expected = _expected_size(file)
    except Exception as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error
    size = path.stat().st_size
    if size != expected:
        raise ValueError(f"{path} is damaged: {size:,} bytes where it says {expected:,}; {remedy}")


def _expected_size(file: BinaryIO) -> int:
    """Return the size of the file in bytes that follows from its pickles and storages."""
    assert _Reader(file).load() == _MAGIC
    for _ in ("protocol", "system"):
        _Reader(file).load()
    weights = _Reader(file)
    weights.load()
    for key in _Reader(file).load():
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count < 0:
            raise ValueError(f"a storage of {count} numbers")
        file.seek(count * weights.item_bytes[str(key)], 1)
    return file.tell()
