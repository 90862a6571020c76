"""The house: which floor may import which, and what importing the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sharcs_pl

PACKAGE = Path(sharcs_pl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "core": {"core"},
    "config": {"core", "config"},
    "models": {"core", "models"},
    "data": {"core", "models", "data"},
    "training": {"core", "models", "data", "training", "analysis"},
    "analysis": {"core", "models", "data", "training", "analysis", "inference"},
    "inference": {"core", "models", "data", "inference"},
    "commandline": {"core", "config", "data"},
    "inputs": {"core", "config", "models", "data"},
    "record": {"config", "models", "data"},
    "launch": set(),
    "cluster": {"commandline", "config"},
    "rundir": {"cluster", "commandline", "core", "config", "launch", "models"},
    "methods": {"core", "config", "models", "training"},
    "build": {"core", "config", "models", "data", "training", "analysis", "inputs", "record", "methods"},
}


def floor_of(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_floors_import_downwards_only(path: Path) -> None:
    floor = path.relative_to(PACKAGE).with_suffix("").parts[0]
    ours = {floor_of(name) for name in imports(path) if name.startswith("sharcs_pl.")}
    assert ours <= FLOORS.get(floor, ours)


def test_core_knows_neither_transformers_nor_lightning() -> None:
    for path in (PACKAGE / "core").glob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"transformers", "lightning", "datasets"}


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["", ".__main__", ".train", ".evaluate", ".predict", ".calibrate", ".export", ".bench", ".cli"]
)
def test_importing_an_entry_loads_no_heavy_library(module: str) -> None:
    assert not loaded_after(f"import sharcs_pl{module}") & {"torch", "transformers", "lightning", "datasets"}


def test_the_public_names_are_there() -> None:
    names = {"RoutedPredictor", "SharcsConfig", "SharcsForSequenceClassification", "__version__"}
    assert set(sharcs_pl.__all__) == names
    assert sharcs_pl.SharcsForSequenceClassification.config_class is sharcs_pl.SharcsConfig
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sharcs_pl.nothing
