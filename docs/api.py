"""Write the API reference from the docstrings into ``build/api``: ``python docs/api.py``; open ``index.html`` there."""

from __future__ import annotations

import argparse
import pkgutil
import typing
import warnings
from pathlib import Path

import pdoc  # pyright: ignore[reportMissingImports]
import pdoc.render  # pyright: ignore[reportMissingImports]
from torch import Tensor

import sharcs_pl
from sharcs_pl.core.hardness import Recorded
from sharcs_pl.models.outputs import EveryRung

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    """The package and what lies in it; pdoc opens the folders itself, and ``__main__`` would run."""
    found = pkgutil.iter_modules(sharcs_pl.__path__, "sharcs_pl.")
    return ["sharcs_pl", *(module.name for module in found if not module.name.endswith("__main__"))]


def load_names() -> None:
    """Load what the package loads when it is first used: pdoc looks among the names that are there."""
    for name in sharcs_pl.__all__:
        setattr(sharcs_pl, name, getattr(sharcs_pl, name))
    # A named tuple's constructor does not know its module, so that pdoc cannot find what is imported for annotations.
    for tuples in (Recorded, EveryRung):
        tuples.__new__.__annotations__ = typing.get_type_hints(tuples, {"Tensor": Tensor})


def main(folder: Path) -> None:
    """Fill ``folder``; a name that pdoc cannot resolve is an error."""
    warnings.filterwarnings("error", module="pdoc")
    load_names()
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(*modules(), output_directory=folder)
    print(f"open {folder / 'index.html'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "api")
    main(parser.parse_args().folder)
