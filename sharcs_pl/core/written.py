"""A list of the files that commands wrote into a folder, kept there to tell them from the user's own files.

A name is listed before its file is written, so that the list is complete even if a command is killed. Unlisted files
belong to the user and are neither replaced nor removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sharcs_pl.core.files import write_text

LIST = ".sharcs.json"


@dataclass(frozen=True)
class Written:
    """The names of the files that commands wrote into `folder`, relative to it. `file`: the file that keeps the list.
    `known`: further names from another source than the list."""

    folder: Path
    file: Path
    known: frozenset[str] = frozenset()

    @classmethod
    def into(cls, folder: Path) -> Written:
        """Return the list of a results folder, which it keeps as ``.sharcs.json``."""
        return cls(folder, folder / LIST)

    def names(self) -> set[str]:
        """Return the listed names, an empty set without a list. Raise ``ValueError`` if the list is damaged."""
        if not self.file.is_file():
            return set()
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))["files"]
            names = {name for name in found if not _leads_out(name)}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file} is damaged, which lists what was written there; remove it") from error
        return names

    def add(self, names: Iterable[str]) -> None:
        """Add names to the list before their files are written."""
        known = self.names()
        if (found := known | set(names)) != known:
            self._write(found)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and then their names from the list; a list without names goes as well."""
        names = set(names)
        if not names:
            return
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        if left := self.names() - names:
            self._write(left)
        else:
            self.file.unlink(missing_ok=True)

    def _write(self, names: Iterable[str]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.file, json.dumps({"files": sorted(names)}, indent=1) + "\n")

    def strange(self, names: Iterable[str]) -> Path | None:
        """Return the first existing path among the names that no command wrote, or None."""
        known = self.names() | self.known
        for name in names:
            path = self.folder / name
            if (blocked := _in_the_way(self.folder, path)) is not None:
                return blocked
            if name not in known and (path.exists() or path.is_symlink()):
                return path
        return None

    def check(self, names: Iterable[str], key: str = "output") -> None:
        """Raise ``ValueError`` naming ``key``, which chooses the folder, if one of the names is a file of the user."""
        strange = self.strange(names)
        if strange is not None:
            raise ValueError(
                f"{key}={self.folder}: {strange} is there and was not written by this command; move it away, or give "
                f"another {key}"
            )

    def claim(self, names: Iterable[str], key: str = "output") -> None:
        """Check the names and list them, so that their files may be written."""
        names = list(names)
        self.check(names, key)
        self.add(names)


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _in_the_way(folder: Path, path: Path) -> Path | None:
    """Return what exists in place of a parent folder of the path without being a folder, or None."""
    above = [step for step in path.parents if step != folder and step.is_relative_to(folder)]
    return next((step for step in above if (step.exists() or step.is_symlink()) and not step.is_dir()), None)
