"""Atomic writes of files and folders, which are written under a temporary name and then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_file(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Yield a temporary path, ``path`` with a suffix, to write a file to. It is renamed to ``path`` when the block
    succeeds and removed when the block raises."""
    part = path.with_name(path.name + suffix)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, owned: Collection[str] | None = None) -> Iterator[Path]:
    """Yield a temporary folder, which replaces the folder ``path`` when the block succeeds.

    With ``owned``, only these names are replaced in an existing folder and its other files stay. ``config.json`` is
    moved last, so that a half-moved folder has none.
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
    """Return the sorted paths of all files below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def previous(path: Path) -> Path:
    """Return the path that keeps the predecessor of ``path``: ``last.prev.ckpt`` beside ``last.ckpt``."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def sync_folder(folder: Path) -> None:
    """Force renames in a folder to the disk if the file system supports it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def writable_path(key: str, value: str) -> Path:
    """Return the path that a key names. Raise ``ValueError`` unless a file can be written there, new or in place of
    one."""
    path, given = Path(value).expanduser(), f"{key}={value}"
    if os.path.isdir(path):
        raise ValueError(f"{given} is a folder; give a file in it")
    if not os.path.isdir(path.parent):
        raise ValueError(f"{given}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{given}: {path.absolute().parent} may not be written to")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
