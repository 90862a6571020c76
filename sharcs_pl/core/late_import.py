"""Imports that wait for another module's, so that an entry in a library's table costs nothing before it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def import_after(awaited: str, name: str) -> None:
    """Import the module `name` as soon as `awaited` has been imported, at once if it has been. If `awaited` is imported
    by a module of the same package as `name`, nothing is done, since that module is not ready to be imported from."""
    if awaited in sys.modules:
        import_module(name)
    else:
        sys.meta_path.insert(0, _After(awaited, name))


class _After(MetaPathFinder):
    """A finder that finds `awaited` as the others do, and lets its loader import `name` when it is done."""

    def __init__(self, awaited: str, name: str) -> None:
        self.awaited, self.name = awaited, name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.awaited:
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            if not _is_being_imported(self.name.rpartition(".")[0]):
                import_module(self.name)

        spec.loader.exec_module = exec_module
        return spec


def _is_being_imported(package: str) -> bool:
    """Return True while a package or a module in it is being executed."""
    own = [module for name, module in list(sys.modules.items()) if f"{name}.".startswith(f"{package}.")]
    return any(getattr(getattr(module, "__spec__", None), "_initializing", False) for module in own)
