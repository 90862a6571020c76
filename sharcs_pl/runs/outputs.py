"""The folder that a command writes a model into, in place of an earlier one of its own and beside the user's files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sharcs_pl.core.files import atomic_folder, files_below
from sharcs_pl.core.written import LIST, Written
from sharcs_pl.inference.trained import model_names
from sharcs_pl.runs.directory import check_writable


def check_output_folder(output: str, mark: str, overwrite: bool, more: Collection[str]) -> Path:
    """Return the folder to write. ``ValueError`` names ``output`` when the folder cannot be written, or holds something
    else than what this command wrote, which the file ``mark`` tells.

    ``more``: the names that are written there beside a model's own.
    """
    folder = Path(output).expanduser()
    check_writable(folder, "output")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / mark).is_file():
            raise ValueError(f"output={output} holds other files; give a new folder")
        if not overwrite:
            raise ValueError(f"output={output} exists; add overwrite=true, or give another folder")
        listed = Written.into(folder)
        if listed.names():  # an older version kept no list
            listed.check([*model_names(folder), *more])
    return folder


@contextmanager
def atomic_output(folder: Path, more: Collection[str]) -> Iterator[Path]:
    """A folder to write a model and ``more`` into; it replaces what an earlier output wrote when the block ends well,
    and other files there stay."""
    listed = Written.into(folder)
    owned = listed.names() or {*model_names(folder), *more}
    with atomic_folder(folder, [*owned, LIST]) as part:
        yield part
        names = files_below(part)
        replace(listed, known=frozenset(owned)).check(names)
        Written.into(part).add(names)
