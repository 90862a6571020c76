"""What the commands wrote into a folder that may also hold files of the user's: a list of names, kept there.

A name is listed before it is written, so that a command that is killed knows its own again. A file that is there and
not in the list is the user's: it is neither replaced nor removed.
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
    """The names, relative to `folder`, that commands wrote there; `file` keeps them. `known`: more of them, told by
    something else than the list."""

    folder: Path
    file: Path
    known: frozenset[str] = frozenset()

    @classmethod
    def into(cls, folder: Path) -> Written:
        """That of a folder of results, which keeps its list as ``.sharcs.json``."""
        return cls(folder, folder / LIST)

    def names(self) -> set[str]:
        """The listed names; none without a list. ``ValueError`` for a damaged one."""
        if not self.file.is_file():
            return set()
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))["files"]
            names = {name for name in found if not _leads_out(name)}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file} is damaged, which lists what was written there; remove it") from error
        return names

    def add(self, names: Iterable[str]) -> None:
        """List names that are written from now on."""
        known = self.names()
        if (found := known | set(names)) != known:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps({"files": sorted(found)}, indent=1) + "\n")

    def strange(self, names: Iterable[str]) -> Path | None:
        """The first of the names that is taken by what no command wrote, if any."""
        known = self.names() | self.known
        for name in names:
            path = self.folder / name
            if (blocked := _in_the_way(self.folder, path)) is not None:
                return blocked
            if name not in known and (path.exists() or path.is_symlink()):
                return path
        return None

    def check(self, names: Iterable[str], key: str = "output") -> None:
        """``ValueError`` when one of the names is the user's; ``key`` is what chooses another folder."""
        strange = self.strange(names)
        if strange is not None:
            raise ValueError(
                f"{key}={self.folder}: {strange} is there and was not written by this command; move it away, or give "
                f"another {key}"
            )

    def claim(self, names: Iterable[str], key: str = "output") -> None:
        """Check and list the names: what follows may write them."""
        names = list(names)
        self.check(names, key)
        self.add(names)


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _in_the_way(folder: Path, path: Path) -> Path | None:
    """What is no folder and stands where one above the path should be."""
    above = [step for step in path.parents if step != folder and step.is_relative_to(folder)]
    return next((step for step in above if (step.exists() or step.is_symlink()) and not step.is_dir()), None)
