"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """A path to write to, ``path`` with a suffix, which becomes ``path`` when the block ends well and vanishes when it
    does not."""
    part = path.with_name(path.name + suffix)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; an old one is replaced."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def previous(path: Path) -> Path:
    """Where the file that ``path`` replaced is kept: ``last.prev.ckpt`` beside ``last.ckpt``."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def sync_folder(folder: Path) -> None:
    """Force renames in a folder to the disk, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
