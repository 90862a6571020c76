"""Weights in the format that torch wrote before 1.6: five pickles, then the raw numbers. Are they all there?

Nothing in a file is executed: whatever the pickles name, an inert stand-in is made in its place. Loading is left to
``torch.load``, which refuses all but tensors. Loads no torch.
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
    """Of any class or function a pickle names: takes whatever is done to it, and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def append(self, entry: Any) -> None: ...

    def extend(self, entries: Any) -> None: ...


class _Reader(pickle.Unpickler):
    """Notes which storages a pickle asks for, and makes nothing that it names."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.item_bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A storage's type as its name; of everything else a stand-in."""
        return name if module == "torch" and name.endswith("Storage") else _StandIn

    def persistent_load(self, pid: Any) -> Any:
        """A reference to a storage: its type, and the key by which its numbers are found."""
        _, kind, key, *_ = pid
        self.item_bytes[str(key)] = _BYTES[str(kind).removesuffix("Storage")]
        return None


def is_legacy(path: Path) -> bool:
    """Whether the file begins as torch's files did before 1.6."""
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def check_legacy(path: Path, remedy: str) -> None:
    """``ValueError`` unless the numbers of every storage are there, and nothing after them; ``remedy`` ends it."""
    try:
        with path.open("rb") as file:
            expected = _expected_size(file)
    except Exception as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error
    size = path.stat().st_size
    if size != expected:
        raise ValueError(f"{path} is damaged: {size:,} bytes where it says {expected:,}; {remedy}")


def _expected_size(file: BinaryIO) -> int:
    """Bytes of the file by what its pickles and storages say."""
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
