"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
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
def whole_folder(path: Path, owned: Collection[str] | None = None) -> Iterator[Path]:
    """The same for a folder; an old one is replaced.

    With ``owned``, only those names in an old one are; its other files stay, and ``config.json`` is moved last, so that
    a half-moved folder has none.
    """
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if owned is not None and path.exists():
            _move_into(part, path, owned)
        else:
            if path.exists():
                shutil.rmtree(path)
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move_into(part: Path, path: Path, owned: Collection[str]) -> None:
    new = files_below(part)
    for name in {name for name in owned if name not in new or name == "config.json"}:
        (path / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == "config.json"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(part / name, path / name)


def files_below(folder: Path) -> list[str]:
    """The names of all files in a folder and those below it, as seen from it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


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
